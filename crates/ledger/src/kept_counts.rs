//! Counts that are kept as rows change, so that nobody goes over a whole table to know them: that
//! takes a minute or more at 45 million.
//!
//! Triggers add a few rows of differences per statement to a table of counts, in the statement's
//! transaction. So the counts are exact, whoever changes rows, and no two transactions wait for
//! each other: a total that all of them updated would make them wait. The rows of differences are
//! added up every few seconds while anybody works; who reads counts adds up whatever is there.

/// The functions and triggers that keep the table `skyfill.$counts` of the rows of `skyfill.$of`,
/// and the statement that counts those that are there. The macro `$sums` makes the statement that
/// adds up rows, each with its sign `n`, from the subquery that it is given; `$row` are the columns
/// of a row that it reads.
///
/// Making the triggers keeps others from changing rows until all that are there are counted.
macro_rules! triggers {
    ($counts:literal, $of:literal, $sums:ident, $row:expr) => {
        concat!(
            $crate::kept_counts::function!($counts, "added"),
            $sums!(concat!("SELECT 1 AS n, ", $row, " FROM added")),
            " RETURN NULL; END $$;",
            $crate::kept_counts::function!($counts, "removed"),
            $sums!(concat!("SELECT -1 AS n, ", $row, " FROM removed")),
            " RETURN NULL; END $$;",
            $crate::kept_counts::function!($counts, "changed"),
            $sums!(concat!(
                "SELECT 1 AS n, ",
                $row,
                " FROM added UNION ALL SELECT -1, ",
                $row,
                " FROM removed"
            )),
            " RETURN NULL; END $$;",
            $crate::kept_counts::function!($counts, "emptied"),
            "DELETE FROM skyfill.",
            $counts,
            "; RETURN NULL; END $$;",
            $crate::kept_counts::trigger!($counts, $of, "emptied", "TRUNCATE", ""),
            $crate::kept_counts::trigger!(
                $counts,
                $of,
                "added",
                "INSERT",
                "REFERENCING NEW TABLE AS added"
            ),
            $crate::kept_counts::trigger!(
                $counts,
                $of,
                "removed",
                "DELETE",
                "REFERENCING OLD TABLE AS removed"
            ),
            $crate::kept_counts::trigger!(
                $counts,
                $of,
                "changed",
                "UPDATE",
                "REFERENCING OLD TABLE AS removed NEW TABLE AS added"
            ),
            $sums!(concat!("SELECT 1 AS n, ", $row, " FROM skyfill.", $of))
        )
    };
}

/// The beginning of a trigger's function.
macro_rules! function {
    ($counts:literal, $when:literal) => {
        concat!(
            "CREATE FUNCTION skyfill.",
            $counts,
            "_",
            $when,
            "() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN "
        )
    };
}

/// A trigger that calls its function once per statement.
macro_rules! trigger {
    ($counts:literal, $of:literal, $when:literal, $event:literal, $rows:literal) => {
        concat!(
            "CREATE TRIGGER ",
            $counts,
            "_",
            $when,
            " AFTER ",
            $event,
            " ON skyfill.",
            $of,
            " ",
            $rows,
            " FOR EACH STATEMENT EXECUTE FUNCTION skyfill.",
            $counts,
            "_",
            $when,
            "();"
        )
    };
}

pub(crate) use {function, trigger, triggers};
