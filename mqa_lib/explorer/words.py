"""What the explorer says beside its pictures, made from the record; nothing here is typed by hand."""

import html

from mqa_lib import checks
from mqa_lib.record import AttentionRecord, entropy

CAVEAT = (
    "A weight says how much of a key's value is mixed into the result, before the output projection and all that "
    "follows. It does not say why the model decides as it does: other weights may lead to the same decision."
)
CAVEAT_POINTS = (
    "The maps that a layer reads already know of more of the picture than their own place, so a bright key or a large "
    "mark is not the only part that counts. To learn what a detection hangs on, change the picture and look again."
)
COUNTED = "Rows, columns and heads are counted from 0."


def layer_name(record: AttentionRecord) -> str:
    """Return a layer's name, kind and the sizes of its grids."""
    queries, keys = ("×".join(map(str, grid)) for grid in (record.query_grid, record.key_grid))
    return f"{record.layer or 'the model itself'} ({record.kind}): {queries} queries, {keys} keys"


def percent(share: float) -> str:
    """Return a share in percent, small ones with one digit more: of many keys each gets little."""
    return f"{share:.{2 if share < 0.00995 else 1}%}"


def what_is_real(record: AttentionRecord, bits: int = 16) -> str:
    """Return what the weights and the numbers are.

    Args:
        record: The layer.
        bits: Bits that a number of its queries and keys is kept in: 16 as in the record, or 12 in a large page.
    """
    shared = "one set of keys for all heads" if record.shares_keys else "a set of keys for each head"
    size = f"{(record.q.size + record.k.size) * bits / 8000:.0f} kB"
    kept = "float16" if bits == 16 else f"{bits} bits each"
    said = record.weights_are.rstrip(". ")
    return (
        f"What is real here: {said}. Queries and keys are the layer's own, {shared}, kept in {kept} ({size})."
    )


def sentence(record: AttentionRecord, query: int, head: int) -> str:
    """Return one head's reading as a sentence: its strongest key, and how much it chooses."""
    row, column = divmod(query, record.query_grid[1])
    best, bits = record.top(query, head, 1)[0], float(entropy(record.row(query, head)))
    return (
        f"Query row {row}, column {column}, head {head}: strongest key row {best.row}, column {best.column}, "
        f"{percent(best.share)}; entropy {bits:.2f} of at most {record.uniform_entropy:.2f} bits."
    )


def sharpest(record: AttentionRecord, query: int) -> int:
    """Return the head that reads a single key most: the one that shows best what a layer can choose."""
    return int(record.rows(query).reshape(record.num_heads, -1).max(axis=1).argmax())


def readout(record: AttentionRecord, query: int, head: int | None = None, count: int = 5) -> str:
    """Return an HTML table of the strongest keys of every head, or of one, with its sentences and the caveat.

    Args:
        record: The layer.
        query: Number of the query.
        head: The only head to read; all if not given.
        count: Keys to list for each head.
    """
    uniform = f"Every key alike would be {percent(1 / record.k.shape[1])} each and {record.uniform_entropy:.2f} bits."
    said = "".join(
        f"<p>{html.escape(text)}</p>" for text in (f"{uniform} {COUNTED}", what_is_real(record), CAVEAT)
    )
    return strongest(record, query, head, count) + said


def strongest(record: AttentionRecord, query: int, head: int | None = None, count: int = 5) -> str:
    """Return an HTML table of the keys that a query reads most, in every head or in one, and the heads' entropy.

    Args:
        record: The layer.
        query: Number of the query.
        head: The only head to read; all if not given.
        count: Keys to list for each head.
    """
    heads = range(record.num_heads) if head is None else [head]
    first = "".join(f"<th scope='col'>head {number}</th>" for number in heads)
    columns = [record.top(query, number, checks.positive("count", count)) for number in heads]
    lines = [
        f"<tr><th scope='row'>{place + 1}</th>"
        + "".join(f"<td>row {key.row}, column {key.column}: <b>{percent(key.share)}</b></td>" for key in line)
        + "</tr>"
        for place, line in enumerate(zip(*columns, strict=True))
    ]
    bits = [float(entropy(record.row(query, number))) for number in heads]
    lines.append(
        "<tr><th scope='row'>entropy</th>" + "".join(f"<td>{b:.2f} bits</td>" for b in bits) + "</tr>"
    )
    caption = f"<caption>The {len(lines) - 1} keys that this query reads most</caption>"
    return f"<table>{caption}<tr><td></td>{first}</tr>{''.join(lines)}</table>"


def failure(error: Exception) -> str:
    """Return what stands in the readout when a redraw failed."""
    what = html.escape(f"{type(error).__name__}: {error}")
    return f"<p role='alert'><b>The explorer could not redraw.</b> {what}</p>"
