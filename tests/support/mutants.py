"""Print the score of `make mutants` by module, and the surviving mutants; `mutmut show NAME` shows one."""

from collections import Counter
from pathlib import Path

from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.stats import status_by_exit_code

NOTICED = ("killed", "timeout", "segfault")


def endings(module: Path) -> dict[str, str]:
    """Return the status of each mutant of a module, by its name."""
    record = SourceFileMutationData(path=module)
    record.load()
    return {name: status_by_exit_code[code] for name, code in record.exit_code_by_key.items()}


def main() -> None:
    for module in map(Path, config().only_mutate):
        ended = endings(module)
        counts = Counter(ended.values())
        share = sum(counts[ending] for ending in NOTICED) / len(ended)
        print(f"{module}: {len(ended)} mutants, {share:.1%} noticed; {dict(counts)}")  # noqa: T201
        for name, ending in ended.items():
            if ending not in (*NOTICED, "not checked"):
                print(f"  {ending}: {name}")  # noqa: T201


if __name__ == "__main__":
    main()
