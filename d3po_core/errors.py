"""Everything d3po_core refuses, each a sentence that names the file or value and the fault.

CoreError
├── ModelMissing       the base model or a checkpoint's folder is not there, damaged or not loadable
├── UnsupportedModel   a pipeline or scheduler that the library has no exact step for
├── BadParams          parameters that the loaded model cannot take: a size, a number of steps, an eta
├── NoDensity          the log-probability of a step without noise (sigma = 0)
├── BadTrajectory      a trajectory file that is truncated, altered, or from another model
├── BadSamples         what the published code's sample.pkl should not hold, or lacks
├── BadPreference      a preference that names an image that is not there, or an image against itself
├── BadPrompts         prompts, a prompt file or a template that make no prompt set
├── NoPairs            nothing to train on
├── BadImage           an image file that is missing, truncated or none
├── BadReward          a reward that fails, or answers anything but one finite number an image
├── RewardUnavailable  a scorer elsewhere that cannot be reached
├── LibraryMissing     an option that needs a library which is not installed
├── BadState           what a killed round left belongs to another one, or is no such thing
├── NotReproduced      an image that was drawn again and came out different
└── NotFinite          NaN or infinity in latents, log-probabilities or gradients
"""

from __future__ import annotations


class CoreError(Exception):
    """Base of all errors of this library."""


class ModelMissing(CoreError):
    pass


class UnsupportedModel(CoreError):
    pass


class BadParams(CoreError):
    pass


class NoDensity(CoreError):
    pass


class BadTrajectory(CoreError):
    pass


class BadSamples(CoreError):
    pass


class BadPreference(CoreError):
    pass


class BadPrompts(CoreError):
    pass


class NoPairs(CoreError):
    pass


class BadImage(CoreError):
    pass


class BadReward(CoreError):
    pass


class RewardUnavailable(CoreError):
    pass


class LibraryMissing(CoreError):
    pass


class BadState(CoreError):
    pass


class NotReproduced(CoreError):
    pass


class NotFinite(CoreError):
    pass
