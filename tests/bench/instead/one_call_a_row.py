"""httpx2 and tenacity: the rows in the order of the file, one call each, eight at a time."""

import asyncio
from collections.abc import Iterator

import httpx2
import tenacity

from tests.bench.instead.common import KEY, PATHS, WORKERS, Pace, Record, Row, rows_of, told


class PassingError(Exception):
    """Worth another attempt, after so many seconds if the API says so."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds


def pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    own = tenacity.wait_random_exponential(multiplier=0.5, max=30)(state)
    return max(own, error.seconds) if isinstance(error, PassingError) else own


@tenacity.retry(
    retry=tenacity.retry_if_exception_type((httpx2.TransportError, PassingError)),
    wait=pause,
    stop=tenacity.stop_after_attempt(6),
    reraise=True,
)
async def post(http: httpx2.AsyncClient, pace: Pace, row: Row) -> httpx2.Response:
    await asyncio.sleep(pace.wait_for())
    body = {"customerEmail": row["customer"], "deviceIdentifiers": [row["device"]]}
    response = await http.post(PATHS[row["action"]], json=body)
    if response.status_code == 429 or response.status_code >= 500:
        raise PassingError(float(response.headers.get("Retry-After", 0)))
    return response


async def work(http: httpx2.AsyncClient, pace: Pace, rows: Iterator[Row], record: Record) -> None:
    for row in rows:
        try:
            response = await post(http, pace, row)
        except (httpx2.TransportError, PassingError) as error:
            record.write(row, f"failed: {error!r}")
            continue
        if response.is_success:
            record.answered(row, row["action"], response.json())
        else:
            record.write(row, f"failed: {response.text}")


async def main() -> None:
    base_url, file, path, rate = told()
    record, pace = Record(path), Pace(rate)
    rows = rows_of(file, record)
    async with (
        httpx2.AsyncClient(base_url=base_url, headers={"x-api-key": KEY}, timeout=30) as http,
        asyncio.TaskGroup() as workers,
    ):
        for _ in range(WORKERS):
            workers.create_task(work(http, pace, rows, record))


if __name__ == "__main__":
    asyncio.run(main())
