//! The settings of a connection that libpq knows (manual, "Parameter Key Words" and "Environment
//! Variables"), and what skyfill does with each.

/// What skyfill does with a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It does as libpq does.
    Honored,
    /// It has no bearing on how skyfill connects.
    Ignored,
    /// Only these values are possible; another one would change what the connection guarantees.
    Only(&'static [&'static str]),
}

/// A setting.
#[derive(Debug)]
pub(super) struct Keyword {
    /// Its name in a connection string.
    pub(super) name: &'static str,
    /// The environment variable that sets it, if there is one.
    pub(super) variable: Option<&'static str>,
    /// What skyfill does with it.
    pub(super) used: Use,
}

const fn honored(name: &'static str, variable: &'static str) -> Keyword {
    Keyword {
        name,
        variable: Some(variable),
        used: Use::Honored,
    }
}

const fn in_string(name: &'static str) -> Keyword {
    Keyword {
        name,
        variable: None,
        used: Use::Honored,
    }
}

const fn ignored(name: &'static str) -> Keyword {
    Keyword {
        name,
        variable: None,
        used: Use::Ignored,
    }
}

const fn only(
    name: &'static str,
    variable: Option<&'static str>,
    values: &'static [&'static str],
) -> Keyword {
    Keyword {
        name,
        variable,
        used: Use::Only(values),
    }
}

/// All of them. What the environment sets and skyfill ignores has no variable here.
pub(super) static KEYWORDS: &[Keyword] = &[
    honored("service", "PGSERVICE"),
    honored("user", "PGUSER"),
    honored("password", "PGPASSWORD"),
    honored("passfile", "PGPASSFILE"),
    honored("dbname", "PGDATABASE"),
    honored("host", "PGHOST"),
    honored("hostaddr", "PGHOSTADDR"),
    honored("port", "PGPORT"),
    honored("options", "PGOPTIONS"),
    honored("application_name", "PGAPPNAME"),
    in_string("fallback_application_name"),
    honored("connect_timeout", "PGCONNECT_TIMEOUT"),
    in_string("tcp_user_timeout"),
    in_string("keepalives"),
    in_string("keepalives_idle"),
    in_string("keepalives_interval"),
    in_string("keepalives_count"),
    honored("channel_binding", "PGCHANNELBINDING"),
    honored("target_session_attrs", "PGTARGETSESSIONATTRS"),
    honored("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    honored("sslmode", "PGSSLMODE"),
    honored("sslnegotiation", "PGSSLNEGOTIATION"),
    honored("sslrootcert", "PGSSLROOTCERT"),
    honored("sslcert", "PGSSLCERT"),
    honored("sslkey", "PGSSLKEY"),
    honored("sslcertmode", "PGSSLCERTMODE"),
    honored("sslsni", "PGSSLSNI"),
    honored("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    honored("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    only("sslcompression", None, &["0", "1"]),
    only("sslpassword", None, &[""]),
    only("sslcrl", Some("PGSSLCRL"), &[""]),
    only("sslcrldir", Some("PGSSLCRLDIR"), &[""]),
    only("requirepeer", Some("PGREQUIREPEER"), &[""]),
    only("require_auth", Some("PGREQUIREAUTH"), &[""]),
    only("gssencmode", Some("PGGSSENCMODE"), &["disable", "prefer"]),
    only("replication", None, &["0", "off", "no", "false"]),
    // Text travels as UTF-8 whatever the client's locale is.
    ignored("client_encoding"),
    ignored("krbsrvname"),
    ignored("gsslib"),
    ignored("gssdelegation"),
    ignored("min_protocol_version"),
    ignored("max_protocol_version"),
];

/// The setting of this name. `keepalives_retries` is what the Rust driver calls
/// `keepalives_count`.
pub(super) fn of(name: &str) -> Option<&'static Keyword> {
    let name = match name {
        "keepalives_retries" => "keepalives_count",
        name => name,
    };
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}
