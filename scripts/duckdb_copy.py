#!/usr/bin/env python3
"""DuckDB's own COPY to Parquet, for `bench export`: prints the seconds that it took.

Usage: duckdb_copy.py stdin TARGET    rows of `record` as CSV on stdin
       duckdb_copy.py tables TARGET EXPORTED    the rows and columns of an export, from tables of
                                                DuckDB, which are filled before the clock starts
"""

import os
import sys
import time

import duckdb

FORM = "FORMAT parquet, COMPRESSION zstd, OVERWRITE"


def main() -> None:
    how, target = sys.argv[1:3]
    db = duckdb.connect()
    db.execute("SET preserve_insertion_order = false")
    if how == "stdin":
        started = time.monotonic()
        db.execute(
            f"""COPY (SELECT *, split_part(uri, '/', 4) AS collection, left("indexedAt", 7) AS month
                FROM read_csv('/dev/stdin', header = false, auto_detect = false, delim = ',', quote = '"', escape = '"',
                  max_line_size = 33554432, columns = {{'uri': 'VARCHAR', 'cid': 'VARCHAR', 'did': 'VARCHAR',
                  'json': 'VARCHAR', 'indexedAt': 'VARCHAR'}}))
                TO '{target}' ({FORM}, PARTITION_BY (collection, month))"""
        )
        print(time.monotonic() - started)
        return
    exported = sys.argv[3]
    names = sorted(name for name in os.listdir(exported) if name.startswith("collection="))
    for number, name in enumerate(names):
        db.execute(
            f"CREATE TABLE t{number} AS SELECT * FROM read_parquet('{exported}/{name}/*/*.parquet', hive_partitioning = true)"
        )
    started = time.monotonic()
    for number, name in enumerate(names):
        db.execute(f"COPY t{number} TO '{target}/{name}' ({FORM}, PARTITION_BY (month))")
    print(time.monotonic() - started)


main()
