"""What the explorer says beside its pictures, made from the record; nothing here is typed by hand."""

import html

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
_LISTED = 5  # keys of a table


def layer_name(record: AttentionRecord) -> str:
    """Return a layer's name, kind and the sizes of its grids."""
    queries, keys = ("×".join(map(str, grid)) for grid in (record.query_grid, record.key_grid))
    return f"{record.layer or 'the model itself'} ({record.kind}): {queries} queries, {keys} keys"


def percent(share: float) -> str:
    """Return a share in percent, small ones with one digit more: of many keys each gets little."""
    return f"{share:.{2 if share < 0.00995 else 1}%}"


def what_is_real(record: AttentionRecord) -> str:
    """Return what the weights and the numbers are."""
    shared = "one set of keys for all heads" if record.shares_keys else "a set of keys for each head"
    size = f"{(record.q.nbytes + record.k.nbytes) / 1000:.0f} kB"
    said = record.weights_are.rstrip(". ")
    return f"What is real here: {said}. Queries and keys are the layer's own, {shared}, kept in float16 ({size})."


def sentence(record: AttentionRecord, query: int, head: int) -> str:
    """Return one head's reading as a sentence: its strongest key, and how much it chooses."""
    row, column = divmod(query, record.query_grid[1])
    best, bits = record.top(query, head, 1)[0], float(entropy(record.row(query, head)))
    return (
        f"Query row {row}, column {column}, head {head}: strongest key row {best.row}, column {best.column}, "
        f"{percent(best.share)}; entropy {bits:.2f} of at most {record.uniform_entropy:.2f} bits."
    )


def outlined(key: int | None) -> str:
    """Return what to add where a picture outlines the right key: nothing where none is known."""
    return "" if key is None else " The right key is outlined in orange."


def sharpest(record: AttentionRecord, query: int) -> int:
    """Return the head that reads a single key most: the one that shows best what a layer can choose."""
    return int(record.rows(query).reshape(record.num_heads, -1).max(axis=1).argmax())


def readout(record: AttentionRecord, query: int) -> str:
    """Return an HTML table of the keys that every head reads most for a query, the heads' entropy, and what is real."""
    heads = range(record.num_heads)
    columns = [record.top(query, head, _LISTED) for head in heads]
    bits = [float(entropy(record.row(query, head))) for head in heads]
    lines = [
        (place + 1, [f"row {key.row}, column {key.column}: <b>{percent(key.share)}</b>" for key in line])
        for place, line in enumerate(zip(*columns, strict=True))
    ]
    caption = f"<caption>The {len(lines)} keys that this query reads most</caption>"
    first = "".join(f"<th scope='col'>head {head}</th>" for head in heads)
    rows = "".join(
        f"<tr><th scope='row'>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, cells in [*lines, ("entropy", [f"{each:.2f} bits" for each in bits])]
    )
    uniform = f"Every key alike would be {percent(1 / record.k.shape[1])} each and {record.uniform_entropy:.2f} bits."
    return (
        f"<table>{caption}<tr><td></td>{first}</tr>{rows}</table>"
        f"<p>{uniform} {COUNTED}</p><p>{html.escape(what_is_real(record))}</p>"
    )


def caveat() -> str:
    """Return what weights and points do not say, as HTML."""
    return f"<p>{html.escape(CAVEAT)}</p><p>{html.escape(CAVEAT_POINTS)}</p>"
