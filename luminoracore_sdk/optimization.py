"""The optimizer, under the names of Core's ``luminoracore.optimization``."""

from luminoracore_sdk.adapters.optimizer.optimizer import OptimizationConfig, Optimizer
from luminoracore_sdk.adapters.optimizer.statistics import OptimizationStatistics

__all__ = ["OptimizationConfig", "OptimizationStatistics", "Optimizer"]
