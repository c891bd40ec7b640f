"""Re-exports for overton_judge.yaml."""

from pluralism_eval.metrics.judge_task import METRICS, JudgeTask, load_judge_docs, overton_judge
from pluralism_eval.metrics.metric import metric_list

metrics = metric_list(METRICS)


def target(doc: dict) -> str:
    """What a fully pluralistic response would say; shown in few-shot examples."""
    return " ".join(doc["explanations"])


__all__ = ["JudgeTask", "load_judge_docs", "metrics", "overton_judge", "target"]
