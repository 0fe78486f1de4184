#!/usr/bin/env python3
"""Reads exported files with DuckDB and with polars, and compares counts and hashes.

Usage: export_check.py EXPORTED          with the manifest of the export
       export_check.py EXPORTED TEED     also the newest rows of a folder of skyfill tee with it
"""

import hashlib
import json
import os
import sys

import duckdb
import polars


def hash_by_duckdb(rows: str) -> tuple[int, str]:
    count, total = duckdb.sql(
        f"SELECT count(*), sum(('0x' || left(sha256(uri || ' ' || cid), 16))::UBIGINT::HUGEINT) FROM ({rows})"
    ).fetchall()[0]
    return count, f"{int(total or 0) % 2**64:016x}"


def hash_by_polars(rows: polars.DataFrame) -> tuple[int, str]:
    total = 0
    for uri, cid in rows.select("uri", "cid").iter_rows():
        total += int(hashlib.sha256(f"{uri} {cid}".encode()).hexdigest()[:16], 16)
    return rows.height, f"{total % 2**64:016x}"


def exported_by_duckdb(files: str) -> tuple[int, str]:
    return hash_by_duckdb(f"FROM read_parquet('{files}')")


def exported_by_polars(files: str) -> tuple[int, str]:
    rows = polars.scan_parquet(files).select("uri", "cid", "sortAt", "record").collect()
    assert rows["sortAt"].dtype == polars.Datetime("ms", "UTC"), rows["sortAt"].dtype
    for record in rows["record"].head(100):
        json.loads(record)
    return hash_by_polars(rows)


def teed_by_duckdb(files: str) -> tuple[int, str]:
    return hash_by_duckdb(
        f"""SELECT uri, arg_max(cid, sequence) AS cid, arg_max(operation, sequence) AS last
            FROM read_parquet('{files}') GROUP BY uri HAVING last <> 'delete'"""
    )


def teed_by_polars(files: str) -> tuple[int, str]:
    rows = polars.scan_parquet(files).select("uri", "cid", "sequence", "operation")
    newest = rows.sort("sequence").unique(subset="uri", keep="last")
    return hash_by_polars(newest.filter(polars.col("operation") != "delete").collect())


def read_manifest(folder: str) -> dict:
    with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
        return json.load(file)


def compare(folder: str, collections: dict, readers: tuple) -> int:
    records = 0
    for name, tally in collections.items():
        if tally["records"] == 0:
            continue
        expected = (tally["records"], tally["hash"])
        for reader in readers:
            found = reader(f"{folder}/collection={name}/*/*.parquet")
            if found != expected:
                sys.exit(f"{folder}, {name}: {reader.__name__} has {found}, wanted {expected}")
        records += tally["records"]
    return records


def main() -> None:
    readers = f"DuckDB {duckdb.__version__} and polars {polars.__version__}"
    exported, teed = sys.argv[1], sys.argv[2:]
    collections = read_manifest(exported)["collections"]
    records = compare(exported, collections, (exported_by_duckdb, exported_by_polars))
    print(
        f"{readers} read {records} records of {len(collections)} collections:"
        " counts and hashes are those of the manifest"
    )
    for folder in teed:
        rows = read_manifest(folder)["rows"]
        found = duckdb.sql(
            f"SELECT count(*), count(DISTINCT sequence) FROM read_parquet('{folder}/*/*/*.parquet', union_by_name = true)"
        ).fetchall()[0]
        if found != (rows, rows):
            sys.exit(f"{folder}: {found} rows and numbers, the manifest {rows}")
        compare(folder, collections, (teed_by_duckdb, teed_by_polars))
        print(
            f"{readers} read {rows} messages, each of them once: the newest of each record are the"
            f" {records} records of the export"
        )


main()
