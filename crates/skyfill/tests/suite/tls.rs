//! Connections as people have them: TLS in each of its modes against certificates of an authority
//! of the tests' own, passwords from files, settings from the environment and from services, IPv6,
//! and a pooler between.

use pg::{DbError, DbErrorKind};
use postgres::Client;
use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use testbed::*;

/// The name that the server's certificate is for.
const NAME: &str = "db.example.test";

/// An authority that signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate for `name`, and its key.
    fn sign(&self, name: &str, change: impl Fn(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A server that speaks TLS, on an address of loopback of its own.
struct TlsServer {
    dir: tempfile::TempDir,
    authority: Authority,
    address: String,
    private: Option<pgbox::Server>,
}

impl TlsServer {
    /// `which` tells the servers of one test process apart.
    fn start(which: u8) -> Self {
        let dir = folder();
        let id = std::process::id();
        let address = format!("127.{which}.{}.{}", (id >> 8) & 0xff, id & 0xff);
        let hba = dir.path().join("hba.conf");
        fs::write(
            &hba,
            "local all all trust\n\
             hostssl all tls all scram-sha-256\n\
             hostssl all certified all cert\n\
             hostnossl all plain all scram-sha-256\n",
        )
        .unwrap();
        let private = pgbox::start_with(
            &dir.path().join("server"),
            &[
                ("listen_addresses", &format!("{address},::1")),
                ("hba_file", hba.to_str().unwrap()),
                ("fsync", "off"),
            ],
        )
        .expect("a server");
        let server = Self {
            dir,
            authority: Authority::new(),
            address,
            private: Some(private),
        };
        fs::write(server.path("root.crt"), &server.authority.pem).unwrap();
        let mut client = server.superuser();
        for user in ["tls", "plain", "certified"] {
            let sql = format!(
                "CREATE ROLE {user} LOGIN PASSWORD 'secret'; CREATE DATABASE {user} OWNER {user}"
            );
            for statement in sql.split(';') {
                client.batch_execute(statement).unwrap();
            }
        }
        let (certificate, key) = server.authority.sign(NAME, |_| {});
        server.show(&certificate, &key);
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The path of a file as it stands in a connection string.
    fn file(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn superuser(&self) -> Client {
        let server = self.private.as_ref().expect("a server that runs");
        Client::connect(&server.url_of("postgres"), postgres::NoTls).expect("connect")
    }

    /// Lets the server show this certificate, and waits until it does.
    fn show(&self, certificate: &str, key: &str) {
        let mut client = self.superuser();
        let data: String = client.query_one("SHOW data_directory", &[]).unwrap().get(0);
        let owner = fs::metadata(&data).unwrap();
        for (name, text) in [
            ("server.crt", certificate),
            ("server.key", key),
            ("clients.crt", self.authority.pem.as_str()),
        ] {
            let path = Path::new(&data).join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        for setting in ["ssl_ca_file = 'clients.crt'", "ssl = on"] {
            client
                .batch_execute(&format!("ALTER SYSTEM SET {setting}"))
                .unwrap();
        }
        let loaded = |client: &mut Client| -> String {
            let sql = "SELECT pg_conf_load_time()::text || current_setting('ssl')";
            client.query_one(sql, &[]).unwrap().get(0)
        };
        let before = loaded(&mut client);
        client.batch_execute("SELECT pg_reload_conf()").unwrap();
        wait_until("the new certificate", || {
            let now = loaded(&mut self.superuser());
            now != before && now.ends_with("on")
        });
    }

    /// A connection string by the certificate's name, with these settings besides.
    fn by_name(&self, user: &str, more: &str) -> String {
        format!(
            "host={NAME} hostaddr={} user={user} password=secret {more}",
            self.address
        )
    }

    /// The same by the address, which the certificate is not for.
    fn by_address(&self, user: &str, more: &str) -> String {
        format!("host={} user={user} password=secret {more}", self.address)
    }

    fn root(&self) -> String {
        format!("sslrootcert={}", self.path("root.crt").display())
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.private = None;
        drop(pgbox::stop(&self.dir.path().join("server")));
    }
}

/// Whether a connection of these settings is encrypted.
fn encrypted(settings: &str) -> bool {
    let mut client = pg::connect(settings).unwrap_or_else(|error| panic!("{error} {error:?}"));
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    client.query_one(sql, &[]).unwrap().get(0)
}

fn refused(settings: &str) -> DbError {
    match pg::connect(settings) {
        Ok(_) => panic!("let in: {settings}"),
        Err(error) => error,
    }
}

/// A refusal that names these things, that no waiting mends, and that has a next step.
fn is_refused(settings: &str, named: &[&str]) {
    let error = refused(settings);
    let text = format!("{error}. {}", error.hint.as_deref().unwrap_or_default());
    for name in named {
        assert!(text.contains(name), "no {name:?} in: {text}");
    }
    assert_eq!(error.kind, DbErrorKind::Other, "{text}");
    assert!(error.hint.is_some(), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn each_mode_connects_as_it_says() {
    let server = TlsServer::start(70);
    let root = server.root();
    for (user, mode, is_encrypted) in [
        ("plain", "disable", false),
        ("plain", "allow", false),
        ("plain", "prefer", false),
        ("tls", "allow", true),
        ("tls", "prefer", true),
        ("tls", "require", true),
    ] {
        let settings = server.by_address(user, &format!("sslmode={mode}"));
        assert_eq!(encrypted(&settings), is_encrypted, "{user} {mode}");
    }
    assert!(
        encrypted(&server.by_address("tls", "")),
        "prefer is the default"
    );
    assert!(encrypted(
        &server.by_address("tls", &format!("sslmode=verify-ca {root}"))
    ));
    assert!(encrypted(
        &server.by_name("tls", &format!("sslmode=verify-full {root}"))
    ));
    for version in ["TLSv1.2", "TLSv1.3"] {
        let only = format!(
            "sslmode=verify-full {root} ssl_min_protocol_version={version} ssl_max_protocol_version={version} channel_binding=require"
        );
        assert!(encrypted(&server.by_name("tls", &only)), "{version}");
    }
    // A socket has no TLS, whatever the mode says.
    let socket = server.private.as_ref().unwrap().url_of("postgres");
    assert!(!encrypted(&format!("{socket}&sslmode=verify-full")));
    is_refused(
        &server.by_address("tls", "sslmode=disable"),
        &["pg_hba.conf", "28000"],
    );
    is_refused(
        &server.by_address("tls", "sslmode=verify-full"),
        &["sslrootcert"],
    );
    let absent = server.by_address("tls", "sslmode=require sslrootcert=/nowhere/root.crt");
    is_refused(&absent, &["/nowhere/root.crt", "sslrootcert"]);
}

#[test]
fn a_server_that_cannot_be_trusted_is_refused_by_name() {
    let server = TlsServer::start(71);
    let root = server.root();
    let other = server.file("other.crt", &Authority::new().pem, 0o644);
    let with_other = format!("sslrootcert={other}");
    for mode in ["require", "verify-ca", "verify-full"] {
        is_refused(
            &server.by_name("tls", &format!("sslmode={mode} {with_other}")),
            &[NAME, "not signed", &other, "sslrootcert"],
        );
    }
    let full = format!("sslmode=verify-full {root}");
    is_refused(
        &server.by_address("tls", &full),
        &[&server.address, NAME, "not for", "verify-ca"],
    );
    // What a command says: the thing, what happened, and the next step; and it does not wait.
    let mut command = skyfill();
    let output = command
        .args([
            "migrate",
            "--database-url",
            &server.by_address("tls", &full),
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(
        told(&output).contains("is for db.example.test, not for 127."),
        "{}",
        told(&output)
    );
    assert!(
        told(&output).contains("hint: connect by a name"),
        "{}",
        told(&output)
    );

    let (certificate, key) = server.authority.sign(NAME, |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    server.show(&certificate, &key);
    is_refused(
        &server.by_name("tls", &full),
        &[NAME, "has expired", "ssl_cert_file"],
    );
    assert!(
        encrypted(&server.by_name("tls", "sslmode=require")),
        "without a check"
    );
}

/// Certificates as PostgreSQL's manual makes them: self-signed, with a common name alone.
#[test]
fn a_self_signed_certificate_in_the_file_is_trusted_by_its_common_name() {
    let server = TlsServer::start(72);
    let make = |years: (i32, i32)| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, NAME);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        server.show(&certificate, &key.serialize_pem());
        let file = server.file("own.crt", &certificate, 0o644);
        format!("sslmode=verify-full sslrootcert={file}")
    };
    let full = make((2020, 4000));
    assert!(encrypted(&server.by_name("tls", &full)));
    is_refused(&server.by_address("tls", &full), &[NAME, "not for"]);
    let full = make((2020, 2021));
    is_refused(&server.by_name("tls", &full), &["has expired"]);
}

#[test]
fn a_client_shows_its_certificate() {
    let server = TlsServer::start(73);
    let (certificate, key) = server.authority.sign("certified", |_| {});
    let cert = format!("sslcert={}", server.file("client.crt", &certificate, 0o644));
    let key_file = server.file("client.key", &key, 0o600);
    let own = format!(
        "sslmode=verify-full {} {cert} sslkey={key_file}",
        server.root()
    );
    let settings = format!("host={NAME} hostaddr={} user=certified", server.address);
    assert!(encrypted(&format!("{settings} {own}")));

    let without = refused(&format!("{settings} sslmode=require"));
    assert!(without.message.contains("client certificate"), "{without}");
    let open = server.file("open.key", &key, 0o644);
    is_refused(
        &format!("{settings} sslmode=require {cert} sslkey={open}"),
        &[&open, "chmod 600"],
    );
    let (_, unrelated) = server.authority.sign("certified", |_| {});
    let unrelated = server.file("unrelated.key", &unrelated, 0o600);
    is_refused(
        &format!("{settings} sslmode=require {cert} sslkey={unrelated}"),
        &["client certificate", "sslkey"],
    );
    // TLS 1.2 tells of a refused certificate within the handshake, 1.3 after it.
    let (stranger, key) = Authority::new().sign("certified", |_| {});
    let (stranger, key) = (
        server.file("stranger.crt", &stranger, 0o644),
        server.file("stranger.key", &key, 0o600),
    );
    is_refused(
        &format!(
            "{settings} sslmode=require ssl_max_protocol_version=TLSv1.2 sslcert={stranger} sslkey={key}"
        ),
        &["does not take this client's certificate", "ssl_ca_file"],
    );
}

/// What psql would take from the environment, a service and a password file, skyfill takes.
#[test]
fn settings_come_from_where_libpq_has_them() {
    let server = TlsServer::start(74);
    let passwords = format!("{NAME}:5432:tls:tls:secret\n");
    let passwords = server.file("passwords", &passwords, 0o600);
    let service = format!(
        "[bsky]\nhost={NAME}\nhostaddr={}\nuser=tls\ndbname=tls\nsslmode=verify-full\nsslrootcert={}\n",
        server.address,
        server.path("root.crt").display()
    );
    let service = server.file("services", &service, 0o644);
    let base = |command: &mut Command| {
        command.env("PGPASSFILE", &passwords);
    };
    let mut of_environment = skyfill();
    base(&mut of_environment);
    of_environment
        .arg("migrate")
        .env("BSKY_DB_POSTGRES_URL", "postgresql://")
        .env("PGHOST", NAME)
        .env("PGHOSTADDR", &server.address)
        .env("PGUSER", "tls")
        .env("PGSSLMODE", "verify-full")
        .env("PGSSLROOTCERT", server.path("root.crt"));
    let output = of_environment.output().unwrap();
    // pg_trgm needs no superuser: it is a trusted extension.
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(
        told(&output).contains(&format!("tls@{NAME}:5432/tls")),
        "{}",
        told(&output)
    );

    let mut of_service = skyfill();
    base(&mut of_service);
    of_service
        .args(["migrate", "--database-url", "service=bsky"])
        .env("PGSERVICEFILE", &service);
    let output = of_service.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).contains("is current"), "{}", told(&output));

    // libpq would not read it, either.
    fs::set_permissions(&passwords, Permissions::from_mode(0o644)).unwrap();
    let output = of_service.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(told(&output).contains("chmod 600"), "{}", told(&output));
}

#[test]
fn an_ipv6_address_is_reached() {
    let server = TlsServer::start(75);
    let url = "postgresql://tls:secret@[::1]/tls?sslmode=require";
    match pg::connect(url) {
        Ok(_) => assert!(encrypted(url), "{}", server.address),
        // Only one server of this machine can have the port.
        Err(error) => eprintln!("skipped: [::1]:5432 is another server's: {error}"),
    }
}

/// A load over TLS with either driver, and a command that is stopped: its statement ends on the
/// server, which is asked over TLS, too.
#[test]
fn a_load_and_a_cancel_go_over_tls() {
    let server = TlsServer::start(76);
    let url = format!(
        "postgresql://tls:secret@{NAME}/tls?hostaddr={}&sslmode=verify-full&{}",
        server.address,
        server.root()
    );
    run_well(skyfill().args(["migrate", "--database-url", &url]));
    let seen = run_well(skyfill().args(["doctor", "--no-network", "--database-url", &url]));
    assert!(
        told(&seen).contains("TLS: encrypted with TLSv1.3"),
        "{}",
        told(&seen)
    );
    let mut drivers = vec![None];
    if cfg!(feature = "pg-native") {
        drivers.push(Some("--pg-native"));
    }
    for driver in drivers {
        let dir = folder();
        let args: Vec<&str> = driver.into_iter().collect();
        let mut consumer = Consumer::start(&url, dir.path(), "s", &args);
        let sql = "SELECT count(*), bool_and(s.ssl) FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid) WHERE a.usename = 'tls'";
        let row = server.superuser().query_one(sql, &[]).unwrap();
        assert!(row.get::<_, i64>(0) > 0 && row.get(1), "{driver:?}");
        consumer.wait_for("listening on");
        consumer.stop();
    }

    let mut holder = pg::connect(&url).unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE bsky.post").unwrap();
    let child = skyfill()
        .args(["finalize", "--database-url", &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'tls' AND wait_event_type = 'Lock'";
    let count = || -> i64 { server.superuser().query_one(waiting, &[]).unwrap().get(0) };
    wait_until("it waits", || count() == 1);
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", told(&output));
    wait_until("its statement ended", || count() == 0);
}

/// A managed server gives out a role that owns its database and nothing else. Its own time limits
/// and those of its database cut no stage short.
#[test]
fn a_role_without_privileges_does_everything() {
    let net = Net::of_tangle(&simnet::Tangle::knotted(64, 6, 300));
    let (db, dir) = (TestDb::empty(), folder());
    let role = format!("owner_{}", std::process::id());
    let config: postgres::Config = db.url.parse().unwrap();
    let name = config.get_dbname().unwrap();
    db.client()
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
             ALTER ROLE {role} SET statement_timeout = '30ms'; ALTER ROLE {role} SET lock_timeout = '30ms';
             ALTER ROLE {role} SET idle_in_transaction_session_timeout = '30ms';
             ALTER DATABASE {name} OWNER TO {role}"
        ))
        .unwrap();
    let url = db.url.replacen("skyfill@", &format!("{role}@"), 1);
    assert_ne!(url, db.url, "the URL names its user");
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    run_well(skyfill().args(["migrate", "--database-url", &url]));
    run_well(run_load(&url).arg(&file));
    let merge = ["--mode", "merge", "--retry-failed"];
    run_well(run_load(&url).arg(&file).args(merge));
    let liked = "DELETE FROM bsky.\"like\" WHERE uri = (SELECT min(uri) FROM bsky.\"like\")";
    assert_eq!(db.client().execute(liked, &[]).unwrap(), 1);
    let found = skyfill()
        .args(["verify", "--all", "--repair", "--database-url", &url])
        .output()
        .unwrap();
    assert_eq!(found.status.code(), Some(1), "{}", told(&found));
    run_well(&mut run_load(&url));
    run_well(skyfill().args(["verify", "--database-url", &url]));
    db.client()
        .batch_execute(&format!(
            "REASSIGN OWNED BY {role} TO skyfill; DROP ROLE {role}"
        ))
        .unwrap();
}

/// A pooler by transaction is refused in a word; one by session is taken.
#[test]
fn a_pooler_by_transaction_is_named() {
    let folders = ["/usr/sbin", "/usr/bin", "/opt/homebrew/bin"];
    let program = folders
        .map(|folder| Path::new(folder).join("pgbouncer"))
        .into_iter()
        .find(|path| path.exists())
        .expect("PgBouncer, which scripts/setup.sh test installs");
    let (db, dir) = (TestDb::migrated(), folder());
    let url: postgres::Config = db.url.parse().unwrap();
    let postgres::config::Host::Unix(sockets) = &url.get_hosts()[0] else {
        panic!("the tests' server has a socket");
    };
    let name = url.get_dbname().unwrap();
    let data: String = db
        .client()
        .query_one("SHOW data_directory", &[])
        .unwrap()
        .get(0);
    let owner = fs::metadata(data).unwrap();
    chown(dir.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
    for (mode, code) in [("transaction", 3), ("session", 0)] {
        let config = dir.path().join(format!("{mode}.ini"));
        fs::write(
            &config,
            format!(
                "[databases]\n{name} = host={} port=5432 user=skyfill dbname={name}\n\
                 [pgbouncer]\npool_mode = {mode}\nunix_socket_dir = {}\nlisten_port = 6432\nauth_type = any\n\
                 logfile = {mode}.log\n",
                sockets.display(),
                dir.path().display()
            ),
        )
        .unwrap();
        let mut command = Command::new(&program);
        command
            .arg(&config)
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if rustix::process::getuid().is_root() {
            use std::os::unix::process::CommandExt;
            command.uid(owner.uid()).gid(owner.gid());
        }
        let mut pooler = command.spawn().unwrap();
        wait_until("the pooler", || dir.path().join(".s.PGSQL.6432").exists());
        let url = format!(
            "postgresql:///{name}?host={}&port=6432",
            dir.path().display()
        );
        let output = skyfill()
            .args(["finalize", "--database-url", &url])
            .output()
            .unwrap();
        pooler.kill().unwrap();
        pooler.wait().unwrap();
        drop(fs::remove_file(dir.path().join(".s.PGSQL.6432")));
        assert_eq!(
            output.status.code(),
            Some(code),
            "{mode}: {}",
            told(&output)
        );
        let named =
            told(&output).contains("PgBouncer") && told(&output).contains("pool_mode = session");
        assert_eq!(named, code == 3, "{}", told(&output));
    }
}
