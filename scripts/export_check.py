#!/usr/bin/env python3
"""Reads an export with DuckDB and with polars, and compares counts and hashes with its manifest.

Usage: export_check.py EXPORTED
"""

import hashlib
import json
import os
import sys

import duckdb
import polars


def by_duckdb(files: str) -> tuple[int, str]:
    count, total = duckdb.sql(
        f"""SELECT count(*), sum(('0x' || left(sha256(uri || ' ' || cid), 16))::UBIGINT::HUGEINT)
            FROM read_parquet('{files}')"""
    ).fetchall()[0]
    return count, f"{int(total) % 2**64:016x}"


def by_polars(files: str) -> tuple[int, str]:
    rows = polars.scan_parquet(files).select("uri", "cid", "sortAt", "record").collect()
    total = 0
    for uri, cid in rows.select("uri", "cid").iter_rows():
        total += int(hashlib.sha256(f"{uri} {cid}".encode()).hexdigest()[:16], 16)
    assert rows["sortAt"].dtype == polars.Datetime("ms", "UTC"), rows["sortAt"].dtype
    for record in rows["record"].head(100):
        json.loads(record)
    return rows.height, f"{total % 2**64:016x}"


def main() -> None:
    exported = sys.argv[1]
    with open(os.path.join(exported, "manifest.json"), encoding="utf-8") as file:
        manifest = json.load(file)
    records = 0
    for name, tally in manifest["collections"].items():
        if tally["records"] == 0:
            continue
        files = f"{exported}/collection={name}/*/*.parquet"
        expected = (tally["records"], tally["hash"])
        for reader in (by_duckdb, by_polars):
            found = reader(files)
            if found != expected:
                sys.exit(f"{name}: {reader.__name__} has {found}, the manifest {expected}")
        records += tally["records"]
    print(
        f"DuckDB {duckdb.__version__} and polars {polars.__version__} read {records} records of"
        f" {len(manifest['collections'])} collections: counts and hashes are those of the manifest"
    )


main()
