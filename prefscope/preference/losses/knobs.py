"""Parameters and conventions shared by several losses."""

from __future__ import annotations

from prefscope.preference.registry import Parameter

BETA = Parameter("beta", 0.001, 10.0, "log", "scale of the log-ratios")
LABEL_SMOOTHING = Parameter("label_smoothing", 0.0, 0.5, "linear", "assumed share of flipped labels")
GAP = "sums; β scales the difference of log-ratios"
EACH = "sums; β scales each log-ratio"
MEANS = "means over tokens; β scales their difference"
