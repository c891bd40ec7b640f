"""The paper's human study (Figure 3, appendix B): its page, and what annotators send back."""
