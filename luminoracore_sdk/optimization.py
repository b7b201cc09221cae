"""The optimizer, under the names of Core's ``luminoracore.optimization``."""

from luminoracore_sdk.adapters.optimizer import OptimizationConfig, OptimizationStatistics, Optimizer

__all__ = ["OptimizationConfig", "OptimizationStatistics", "Optimizer"]
