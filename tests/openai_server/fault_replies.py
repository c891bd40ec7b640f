"""The errors behind faults, in the words of OpenAI and Azure."""

from __future__ import annotations

from tests.openai_server.errors import ApiError

_AZURE = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your "
    "prompt and retry. To learn more about our content filtering policies please read our documentation: "
    "https://go.microsoft.com/fwlink/?linkid=2198766"
)


def error_of(fault: str, retry_after: float) -> ApiError:
    """Args:
    retry_after: seconds, for ``429`` and ``429_ms``.
    """
    if fault in ("429", "429_ms", "429_bare"):
        message = "Rate limit reached for model in organization org-tests on requests per min (RPM): Limit 3, Used 3, Requested 1."
        headers = {
            "429": {"retry-after": f"{retry_after:g}"},
            "429_ms": {"retry-after-ms": f"{retry_after * 1000:g}"},
        }.get(fault)
        return ApiError(429, message, None, "rate_limit_exceeded", "requests", headers)
    if fault == "insufficient_quota":
        message = "You exceeded your current quota, please check your plan and billing details."
        return ApiError(429, message, None, "insufficient_quota", "insufficient_quota")
    if fault == "503":
        message = "The engine is currently overloaded, please try again later."
        return ApiError(503, message, None, None, "server_error")
    if fault == "azure_filter":
        severities = {
            name: {"filtered": name == "violence", "severity": "medium" if name == "violence" else "safe"}
            for name in ("hate", "self_harm", "sexual", "violence")
        }  # fmt: skip
        inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": severities}
        return ApiError(400, _AZURE, "prompt", "content_filter", None, more={"status": 400, "innererror": inner})  # fmt: skip
    message = "The server had an error while processing your request. Sorry about that!"
    return ApiError(500, message, None, None, "server_error")
