"""Projects: a base model, a guideline, a voting mode, a prompt set, people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from d3po_core.demo_model import recipe
from d3po_core.params import Params, SamplingParams, TrainingParams
from server.domain import audit, people, presets
from server.domain import prompts as prompt_rules
from server.domain.ballots import MAX_FLAG_CHARACTERS, MAX_FLAGS
from server.domain.people import Role
from server.errors import Conflict, Denied, Invalid, NotFound, parse
from server.models import OWN_PROMPTS, Membership, Project, User
from server.settings import DEMO_WEIGHTS, get_settings

MODES = ("best", "pairwise", "ranking", "good_bad")
P = TypeVar("P", bound=Params)


def create(
    session: Session,
    by: User,
    name: str,
    base_model: str | None = None,
    mode: str | None = None,
    guideline: str | None = None,
    votes_per_task: int | None = None,
    prompt_set: str | None = None,
    prompts: Mapping[str, float] | None = None,
    sampling: SamplingParams | None = None,
    training: TrainingParams | None = None,
    flags: Sequence[str] | None = None,
    blur: bool | None = None,
    preset: str | None = None,
) -> Project:
    """A new project. `base_model` is a name registered in the settings; None takes the operator's default. `prompts`, each with a
    weight, are a prompt set of its own instead of a named one. Everything else that is None is the preset's, without one the
    usual. What `sampling` and `training` do not name is the base model's own where it was measured, else the preset's."""
    if not by.is_admin:
        raise Denied("Only an admin can create a project.")
    name, base_model, begin = name.strip(), base_model or get_settings().base_model, presets.find(preset)
    mode, prompt_set = mode or begin.mode, prompt_set or begin.prompt_set
    votes_per_task = begin.votes_per_task if votes_per_task is None else votes_per_task
    check_name(name)
    _check(base_model, mode, votes_per_task)
    own_prompts = prompt_rules.check_own(prompts) if prompts is not None else {}
    if not own_prompts:
        prompt_rules.check_set(prompt_set)
    if session.scalar(select(Project.id).where(Project.name == name)):
        raise Conflict(f"There is already a project called {name}. Choose another name.")
    (own_sampling, own_training), measured = begin.settings(), settings_of(base_model)
    own_sampling |= measured[0] | ({"images_per_prompt": 2} if mode == "pairwise" else {})
    own_training |= measured[1]
    sampling = merged(own_sampling, sampling or SamplingParams())
    training = merged(own_training, training or TrainingParams())
    check_group_size(mode, sampling)
    project = Project(
        name=name,
        base_model=base_model,
        mode=mode,
        guideline=begin.guideline if guideline is None else guideline,
        votes_per_task=votes_per_task,
        prompt_set=OWN_PROMPTS if own_prompts else prompt_set,
        prompts=own_prompts,
        sampling=sampling.model_dump(mode="json"),
        training=training.model_dump(mode="json"),
        flags=_flags(begin.flags if flags is None else flags),
        blur=begin.blur if blur is None else blur,
    )
    session.add(project)
    session.flush()
    audit.record(session, by, "create project", project.id)
    return project


def set_flags(session: Session, by: User, project: Project, words: Sequence[str]) -> None:
    """From now on the voting page offers these words about single images; votes that carry others stay as they are."""
    people.require(session, by, project, "operator")
    audit.record(session, by, "set flags", project.id, before=project.flags)
    project.flags = _flags(words)
    session.flush()


def set_prompts(session: Session, by: User, project: Project, prompts: Mapping[str, float]) -> None:
    """From now on rounds draw from these prompts, each with its weight."""
    people.require(session, by, project, "operator")
    project.prompts, project.prompt_set = prompt_rules.check_own(prompts), OWN_PROMPTS
    audit.record(session, by, "set prompts", project.id, count=len(project.prompts))
    session.flush()


def choose_prompt_set(session: Session, by: User, project: Project, name: str) -> None:
    """From now on rounds draw from the prompt set of this name; the project's own prompts are kept under their name."""
    people.require(session, by, project, "operator")
    if not (name == OWN_PROMPTS and project.prompts):
        prompt_rules.check_set(name)
    audit.record(session, by, "choose prompt set", project.id, before=project.prompt_set, after=name)
    project.prompt_set = name
    session.flush()


def set_blur(session: Session, by: User, project: Project, blur: bool) -> None:
    """From now on images are shown blurred, or not, until somebody wants to see them; a safety score decides for its image."""
    people.require(session, by, project, "operator")
    audit.record(session, by, "set blur", project.id, before=project.blur)
    project.blur = blur
    session.flush()


def _flags(words: Sequence[str]) -> list[str]:
    chosen = list(dict.fromkeys(" ".join(word.split()) for word in words))
    if len(chosen) > MAX_FLAGS:
        raise Invalid(f"A project offers at most {MAX_FLAGS} flags, you sent {len(chosen)}.")
    for word in chosen:
        if not 1 <= len(word) <= MAX_FLAG_CHARACTERS or not word.isprintable():
            raise Invalid(f"A flag is a word or a few, 1 to {MAX_FLAG_CHARACTERS} characters long, you sent “{word[:60]}”.")
    return chosen


def get(session: Session, project_id: str) -> Project:
    project = session.get(Project, project_id)
    if project is None:
        raise NotFound("There is no such project.")
    return project


def open_for(session: Session, user: User, project_id: str, role: Role) -> Project:
    """The project, for somebody who has this role in it."""
    project = get(session, project_id)
    people.require(session, user, project, role)
    return project


def find(session: Session, name: str) -> Project:
    """By name or id, as people type it on a command line."""
    project = session.scalar(select(Project).where((Project.name == name) | (Project.id == name)))
    if project is None:
        raise NotFound(f"There is no project called {name}. `d3po project create {name}` makes one.")
    return project


def list_for(session: Session, user: User) -> list[Project]:
    return list(session.scalars(_open_to(user)))


def page_for(session: Session, user: User, after: str | None = None, limit: int = 50) -> tuple[list[Project], str | None]:
    """One page by name, and where the next one starts."""
    query = _open_to(user) if after is None else _open_to(user).where(Project.name > after)
    found = list(session.scalars(query.limit(limit + 1)))
    return found[:limit], found[limit - 1].name if len(found) > limit else None


def _open_to(user: User) -> Select[Project]:
    query = select(Project).order_by(Project.name)
    if user.is_admin:
        return query
    return query.join(Membership, Membership.project_id == Project.id).where(Membership.user_id == user.id)


def merged(own: Mapping[str, Any], asked: P) -> P:
    """What a request names, over a project's own values as far as they fit, over the defaults."""
    known = {name: value for name, value in own.items() if name in type(asked).model_fields}
    return parse(type(asked), known | asked.model_dump(include=asked.model_fields_set))


def settings_of(base_model: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sampling and training values that are better for this base model than the defaults."""
    if not is_embedded(base_model):
        return {}, {}
    sampling, training = (own.model_dump(mode="json", exclude_unset=True) for own in (recipe.SAMPLING, recipe.TRAINING))
    return sampling, training


def is_embedded(base_model: str) -> bool:
    """Whether the name stands for the model that comes with the installation."""
    return get_settings().base_models.get(base_model) == str(DEMO_WEIGHTS)


def place(after: str) -> int:
    """Where a page of a numbered list starts."""
    if not after.isdecimal() or len(after) > 9:
        raise Invalid("`after` must be the `next` of the page before.")
    return int(after)


def check_group_size(mode: str, sampling: SamplingParams) -> None:
    if mode == "pairwise" and sampling.images_per_prompt != 2:
        raise Invalid(f"People compare two images here, so images_per_prompt must be 2, you sent {sampling.images_per_prompt}.")


def check_name(name: str) -> None:
    if not 1 <= len(name.strip()) <= len(name) <= 80:
        raise Invalid("A project's name needs 1 to 80 characters.")


def _check(base_model: str, mode: str, votes_per_task: int) -> None:
    if mode not in MODES:
        raise Invalid(f"The voting mode must be {', '.join(MODES[:-1])} or {MODES[-1]}, you sent {mode}.")
    if not 1 <= votes_per_task <= 100:
        raise Invalid(f"votes_per_task must be 1 to 100, you sent {votes_per_task}.")
    known = get_settings().base_models
    if base_model not in known:
        raise Invalid(
            f"There is no base model called {base_model}. An admin registers it in D3PO_BASE_MODELS; known: {', '.join(known)}."
        )
