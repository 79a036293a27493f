"""Unit tests are run at every save, so property tests look at few examples; HYPOTHESIS_PROFILE=deep looks at many."""

import os

from hypothesis import settings

settings.register_profile("quick", max_examples=15, deadline=None)
settings.register_profile("deep", max_examples=2_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
