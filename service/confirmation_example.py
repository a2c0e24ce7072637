"""Example of a confirmation, in the OpenAPI document: what the best of a study and its statistics show of it."""


def _mean(value: float, error: float, low: float, high: float, p_value: float) -> dict[str, float]:
    return {"value": value, "standard_error": error, "low": low, "high": high, "p_value": p_value}


CONFIRMATION = {
    "study": "st_9sVt2mQe4LrX0aZk",
    "state": "completed",
    "complete": True,
    "runs": 10,
    "seeds": [
        {"data": 1290478329, "trial": 3702349105},
        {"data": 3383105127, "trial": 218094116},
        {"data": 70432199, "trial": 1649028773},
        {"data": 2290117403, "trial": 4011290318},
        {"data": 901273554, "trial": 2765104409},
    ],
    "baseline": 2.02,
    "baselines": [2.05, 1.98, 2.1, 1.95, 2.04],
    "best_of_search": 3,
    "confirmed_best": 7,
    "difference": _mean(0.1, 0.07183, -0.09944, 0.2994, 0.2363),
    "configurations": [
        {
            "ordinal": 7,
            "searched": 3.8,
            "seeds": 5,
            "outcomes": {"valid": 5},
            "mean": _mean(3.67, 0.02915, 3.589, 3.751, 2.4e-08),
            "shrinkage": _mean(-0.13, 0.02915, -0.2109, -0.04905, 0.01117),
            "gain": _mean(1.646, 0.05537, 1.492, 1.8, 7.6e-06),
            "gain_shrinkage": _mean(-0.134, 0.05537, -0.2877, 0.01974, 0.07276),
        },
        {
            "ordinal": 3,
            "searched": 3.91,
            "seeds": 5,
            "outcomes": {"valid": 5},
            "mean": _mean(3.57, 0.04359, 3.449, 3.691, 1.3e-07),
            "shrinkage": _mean(-0.34, 0.04359, -0.461, -0.219, 0.001457),
            "gain": _mean(1.546, 0.01778, 1.497, 1.595, 1e-07),
            "gain_shrinkage": _mean(-0.344, 0.01778, -0.3934, -0.2946, 4.2e-05),
        },
    ],
}
