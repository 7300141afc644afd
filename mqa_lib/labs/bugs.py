"""The bug hunt: ten layers that run and are wrong, experiments to do with them, and a name to find for each mistake."""

import html
import inspect
import random
import textwrap
from typing import Any

import ipywidgets as widgets

from mqa_lib import plots
from mqa_lib.exercises import kept
from mqa_lib.labs import base, experiments
from mqa_lib.labs.experiments import EXPERIMENTS, Finding
from mqa_lib.labs.mutants import MUTANTS
from mqa_lib.plots.evidence import number

_CHOOSE = "what is wrong? …"
_ASKS = {
    "shapes": "Does the output have as many pixels as the map, for a square and for an oblong one?",
    "sum the rows": "Do the weights of every query sum to 1, and are they the right layer's?",
    "permute the pixels": "Without a position, must an output not follow its pixel wherever it goes?",
    "raise key_dim": "Do scores keep their spread when heads grow? Queries and keys have a variance of 1.",
    "one head": "Which mistakes cannot be seen with a single head?",
    "train against eval": "Do many outputs of training, with half of all dropped, average to that of evaluation?",
    "even and odd size": "Is the suspect wrong on even sizes, on odd ones, or on both?",
    "count parameters": "Are there as many learnt numbers in every part as there should be?",
    "where a key looks": "On which row of the map is the third key centred, at a stride of 2?",
}
PROOFS = {
    "no-scale": ("raise key_dim", "the scores' spread grows with the root of key_dim"),
    "scale-by-heads": (
        "raise key_dim",
        "the spread is too large by the root of the heads, whatever key_dim is",
    ),
    "softmax-axis": ("sum the rows", "the weights of a query do not sum to 1"),
    "own-values": ("count parameters", "the value branch has more numbers than one head needs"),
    "query-view": (
        "sum the rows",
        "the weights are wrong although every row sums to 1, and pixels cannot be permuted",
    ),
    "output-view": (
        "permute the pixels",
        "outputs do not follow their pixels although every weight is right",
    ),
    "early-dropout": ("train against eval", "training does not average to evaluation"),
    "norm-after": ("count parameters", "key and value lack a weight and a bias for every channel of the map"),
    "padding": ("where a key looks", "the key is centred one pixel on; odd sizes are right"),
    "square-only": ("shapes", "an oblong map does not come back"),
}


class BugHunt(base.Lab):
    """Suspects, experiments and names.

    Args:
        seed: Shuffles the suspects.
        experiment: What to open on: the first suspect whom it shows to be wrong.
    """

    def __init__(self, seed: int = 0, experiment: str = "permute the pixels") -> None:
        order = list(MUTANTS)
        random.Random(seed).shuffle(order)
        self.bugs = {f"suspect {chr(ord('A') + place)}": bug for place, bug in enumerate(order)}
        self.notes: dict[str, list[str]] = {suspect: [] for suspect in self.bugs}
        earlier = kept.load()
        self.found = [
            suspect for suspect, bug in self.bugs.items() if earlier.get(f"bug-hunt: {bug}", {}).get("passed")
        ]
        first = next(name for name, bug in self.bugs.items() if experiments.run(experiment, bug).symptoms)
        self.suspect = base.dropdown("question", list(self.bugs), first)
        self.experiment = widgets.ToggleButtons(options=list(EXPERIMENTS), value=experiment)
        names = [_CHOOSE, *sorted(mutant.title for mutant in MUTANTS.values())]
        self.name = base.dropdown("name the bug", names, _CHOOSE)
        self.name.layout.width = "560px"
        self.verdict = widgets.HTML()
        self.bar = widgets.HTML()
        below = (self.name, self.verdict, self.bar)
        super().__init__([self.suspect, self.experiment], per_line=1, below=below)
        self.suspect.observe(self._other_suspect, names="value")
        self.name.observe(self._named, names="value")
        self._show_progress()

    @property
    def bug(self) -> str:
        """The mistake of the suspect that is being questioned."""
        return self.bugs[self.suspect.value]

    @property
    def finding(self) -> Finding:
        """What the chosen experiment shows of the suspect."""
        return experiments.run(self.experiment.value, self.bug)

    def draw(self) -> tuple[plots.Figure, str]:
        """Return bars, and maps if there are any."""
        return plots.evidence(self.finding.measures, self.finding.maps, self.finding.scale)

    def say(self) -> str:
        """Return who is asked and what, and what PyTorch said if the suspect did not run."""
        notes = self.notes[self.suspect.value]
        if self.experiment.value not in notes:
            notes.append(self.experiment.value)
        error = f" PyTorch said: {self.finding.error}." if self.finding.error else ""
        return f"S{self.suspect.value[1:]}, “{self.experiment.value}”: {_ASKS[self.experiment.value]}{error}"

    def rows(self) -> str:
        """Return everything that was measured of this suspect so far."""
        lines = [
            (name, title, number(right), number(wrong))
            for name in self.notes[self.suspect.value]
            for title, (right, wrong) in experiments.run(name, self.bug).measures.items()
        ]
        titles = ("experiment", "measure", "right layer", "suspect")
        return base.html_table(titles, lines, f"Notes on {self.suspect.value}")

    def judge(self, named: str) -> tuple[bool, str]:
        """Return whether a name is right, and what proves it, or what speaks against it.

        Args:
            named: A name in `MUTANTS`.
        """
        experiment, proof = PROOFS[named]
        shown = _told(experiments.run(experiment, self.bug))
        if named == self.bug:
            seen = MUTANTS[named].seen_in
            return (
                True,
                f"Right: {MUTANTS[named].title}. “{experiment}” proves it: {proof} ({shown}). Seen in {seen}.",
            )
        telling = [experiment, *EXPERIMENTS]
        best = next(each for each in telling if _differ(each, named, self.bug))
        expected, shown = (_told(experiments.run(best, bug)) for bug in (named, self.bug))
        return False, (
            f"Not so. If {MUTANTS[named].title}, “{best}” would show: {expected}. Of this suspect it shows: {shown}."
        )

    def _other_suspect(self, _change: object) -> None:
        self.name.value, self.verdict.value = _CHOOSE, ""

    def _named(self, change: Any) -> None:
        if change["new"] == _CHOOSE:
            return
        named = next(name for name, mutant in MUTANTS.items() if mutant.title == change["new"])
        right, said = self.judge(named)
        code = f"<pre>{html.escape(mistake(named))}</pre>" if right else ""
        self.verdict.value = f'<p role="status">{html.escape(said)}</p>{code}'
        if right and self.suspect.value not in self.found:
            self.found.append(self.suspect.value)
            kept.keep(f"bug-hunt: {named}", True)
            self._show_progress()

    def _show_progress(self) -> None:
        names = ", ".join(f"{name} ({MUTANTS[self.bugs[name]].title})" for name in sorted(self.found))
        said = f"{len(self.found)} of {len(self.bugs)} bugs found" + (f": {names}." if names else ".")
        bar = f'<progress max="{len(self.bugs)}" value="{len(self.found)}"></progress>'
        self.bar.value = f"<label>{bar} {html.escape(said)}</label>"


bug_hunt = BugHunt  # as a cell asks for it: the lab, ready to be its last line


def mistake(bug: str) -> str:
    """Return the lines of a mutant that are wrong, as they stand in the library."""
    lines = inspect.getsource(MUTANTS[bug]).splitlines()
    start = next(place for place, line in enumerate(lines) if line.lstrip().startswith("def "))
    return textwrap.dedent("\n".join(lines[start:]))


def _differ(experiment: str, one: str, other: str) -> bool:
    """Return whether an experiment shows other symptoms of one mistake than of another."""
    return (
        experiments.run(experiment, one).symptoms.keys() != experiments.run(experiment, other).symptoms.keys()
    )


def _told(finding: Finding) -> str:
    shown = finding.symptoms or finding.measures
    told = "; ".join(
        f"{title}: {number(wrong)}, right {number(right)}" for title, (right, wrong) in shown.items()
    )
    return told if finding.symptoms else f"nothing unusual, {told}"
