"""The table, as text and as Markdown."""
import statistics

BASELINES = ("before", "crun-static", "floor")


def number(value):
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def paired(ours, theirs):
    """The median of the ratios round by round: what slowed the machine in one round slowed both."""
    return statistics.median(a / b for a, b in zip(ours, theirs) if b)


def verdict(row, values, runtime):
    """Whether each goal of the row is met by `runtime`: (text, met or None when its peer is missing)."""
    results = []
    for goal in row.goals:
        if runtime not in values or (goal.peer and goal.peer not in values):
            met = None
        elif goal.peer:
            met = paired(values[runtime], values[goal.peer]) <= goal.factor
        else:
            met = statistics.median(values[runtime]) <= goal.limit
        results.append((str(goal), met))
    return results


def table(rows, results, names, subject, baselines=BASELINES):
    """Lines of cells: title, one per runtime, a ratio to each baseline, goal."""
    lines = [["row", *names, *(f"{subject}/{b}" for b in baselines if b in names), f"goal for {subject}"]]
    for row in rows:
        values, failures = results.get(row.name, ({}, {}))
        cells = [f"{row.title}, {row.unit}" if row.unit else row.title]
        for name in names:
            if name in values:
                cells.append(f"{number(statistics.median(values[name]))} ({number(min(values[name]))})")
            else:
                cells.append("failed" if name in failures else "–")
        for baseline in (b for b in baselines if b in names):
            both = subject in values and baseline in values
            cells.append(f"{paired(values[subject], values[baseline]):.2f}" if both else "–")
        words = {True: "met", False: "NOT MET", None: "?"}
        cells.append("; ".join(f"{goal}: {words[met]}" if subject in values else goal for goal, met in verdict(row, values, subject)))
        lines.append(cells)
    return lines


def text(lines):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def markdown(lines):
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + "---|" * len(lines[0]), *body])


def reasons(rows, results):
    """One line for each runtime that could not do a row, with its own last words."""
    said = {}
    for row in rows:
        for name, why in results.get(row.name, ({}, {}))[1].items():
            said.setdefault((name, why), []).append(row.name)
    return [f"{name} failed at {', '.join(names)}: {why}" for (name, why), names in said.items()]
