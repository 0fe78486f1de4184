use super::*;

fn gathered(text: &str, variables: &[(&str, &str)], home: &Path) -> Result<Settings, DbError> {
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Settings::gather(
        text,
        &Surroundings {
            variable: &variable,
            home: Some(home.to_owned()),
        },
    )
}

fn nowhere() -> &'static Path {
    Path::new("/nowhere")
}

#[test]
fn the_string_comes_before_the_service_and_the_service_before_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join(".pg_service.conf"),
        "[s]\nhost=of-service\nport=7\nuser=of-service\n",
    )
    .unwrap();
    let variables = [
        ("PGSERVICE", "s"),
        ("PGHOST", "of-env"),
        ("PGPORT", "8"),
        ("PGDATABASE", "of-env"),
        ("PGSSLMODE", "verify-ca"),
    ];
    let settings = gathered("user=of-string", &variables, dir.path()).unwrap();
    assert_eq!(settings.to_string(), "of-string@of-service:7/of-env");
    assert_eq!(settings.ssl_mode().unwrap(), SslMode::VerifyCa);
    let settings = gathered("postgresql://", &variables[1..], dir.path()).unwrap();
    assert_eq!(settings.servers().unwrap()[0].to_string(), "of-env:8");
}

#[test]
fn servers_are_names_addresses_and_sockets() {
    let servers = |text: &str| -> Vec<String> {
        let settings = gathered(text, &[], nowhere()).unwrap();
        let servers = settings.servers().unwrap();
        servers.iter().map(Server::to_string).collect()
    };
    assert_eq!(servers("postgresql://[::1]:6/d"), ["[::1]:6"]);
    assert_eq!(
        servers("host=a,/run/x,c port=1,2,3"),
        ["a:1", "/run/x", "c:3"]
    );
    assert_eq!(servers("host=a,b port=9"), ["a:9", "b:9"]);
    assert_eq!(servers("hostaddr=192.0.2.1"), ["192.0.2.1:5432"]);
    for refused in [
        "host=a,b port=1,2,3",
        "host=a hostaddr=1.2.3.4,1.2.3.5",
        "hostaddr=name",
        "port=0",
        "port=x",
    ] {
        assert!(gathered(refused, &[], nowhere()).is_err(), "{refused}");
    }
}

#[test]
fn only_what_leaves_the_machine_is_remote() {
    for (text, remote) in [
        ("host=localhost", false),
        ("host=127.0.0.9", false),
        ("host=::1", false),
        ("host=/run/x", false),
        ("host=db.example", true),
        ("host=192.0.2.1", true),
        ("host=localhost hostaddr=192.0.2.1", true),
    ] {
        let settings = gathered(text, &[], nowhere()).unwrap();
        assert_eq!(settings.servers().unwrap()[0].is_remote(), remote, "{text}");
    }
}

#[test]
fn what_cannot_be_kept_is_refused_by_name() {
    for (text, named) in [
        ("host=h sslmod=require", "sslmod"),
        ("host=h sslmode=strict", "strict"),
        ("host=h sslcrl=/etc/crl", "sslcrl"),
        ("host=h require_auth=scram-sha-256", "require_auth"),
        ("host=h sslrootcert=system sslmode=require", "verify-full"),
        ("service=absent", "absent"),
    ] {
        let error = gathered(text, &[], nowhere()).unwrap_err();
        assert!(error.message.contains(named), "{error}");
    }
    let settings = gathered("host=h sslrootcert=system", &[], nowhere()).unwrap();
    assert_eq!(settings.ssl_mode().unwrap(), SslMode::VerifyFull);
}

#[test]
fn a_password_is_of_the_string_the_environment_or_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(".pgpass");
    std::fs::write(&file, "localhost:*:d:u:of-socket\nh:7:d:u:of-file\n").unwrap();
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode));
    mode(0o600).unwrap();
    let password = |text: &str, variables: &[(&str, &str)]| {
        let settings = gathered(text, variables, dir.path()).unwrap();
        settings.password(&settings.servers().unwrap()[0])
    };
    let base = "host=h port=7 user=u dbname=d";
    let with = |more: &str| format!("{base} {more}");
    let env = [("PGPASSWORD", "of-env")];
    assert_eq!(password(&with("password=own"), &env).text.unwrap(), "own");
    let found = password(base, &env);
    assert_eq!(found.text.unwrap(), "of-env");
    assert!(found.note.contains("PGPASSWORD"), "{}", found.note);
    assert_eq!(password(base, &[]).text.unwrap(), "of-file");
    let socket = "host=/var/run/postgresql user=u dbname=d";
    assert_eq!(password(socket, &[]).text.unwrap(), "of-socket");
    assert_eq!(password("host=x user=u dbname=d", &[]).text, None);
    mode(0o644).unwrap();
    let refused = password(base, &[]);
    assert_eq!(refused.text, None);
    assert!(refused.note.contains("chmod 600"), "{}", refused.note);
}

#[test]
fn no_secret_is_shown() {
    let settings = gathered("postgresql://u:hunter2@a:1,b:2/d", &[], nowhere()).unwrap();
    assert_eq!(settings.to_string(), "u@a:1,b:2/d");
    assert!(!format!("{settings:?}").contains("hunter2"));
}
