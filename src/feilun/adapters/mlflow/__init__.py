"""The model registry on MLflow: the library of runs and versions that people open."""

from feilun.adapters.mlflow.registry import MlflowRegistry

__all__ = ["MlflowRegistry"]
