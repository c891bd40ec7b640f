"""Where docs come from: the authors' inputs, a folder of that format, or the shipped sample."""
