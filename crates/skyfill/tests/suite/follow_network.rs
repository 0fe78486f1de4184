//! Following the whole stream of a practice network, as a process over a websocket: whatever
//! happens in the network, to the stream and to the process, the tables end as those of a load of
//! the network's last state, and `verify --all` finds nothing.

use crate::network::{
    FAST, filled_from_cars, on, plain_on, remove_for_comparison, settings, states,
};
use simnet::{Expected, LiveSettings, Network, NetworkSettings, Pace, StreamFault};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;
use testbed::*;

/// A network that was discovered and loaded.
pub(crate) struct Scene {
    pub(crate) network: Network,
    pub(crate) db: TestDb,
}

impl Scene {
    fn new(seed: u64, repos: usize) -> Self {
        Self::of(settings(seed, repos, 4), TestDb::migrated())
    }

    pub(crate) fn of(settings: NetworkSettings, db: TestDb) -> Self {
        let network = Network::start(settings);
        let mut run = on(&network, &db, "run");
        run.args(FAST).args(["--discover", "--no-verify"]);
        run_well(run.args(["--relay", &network.relay_url()]));
        Self { network, db }
    }

    pub(crate) fn follow(&self) -> Command {
        let mut follow = plain_on(&self.network, &self.db, "follow", "claimed");
        follow
            .args(FAST)
            .args(["--relay", &self.network.relay_url()]);
        follow
    }

    /// Follows up to the present.
    pub(crate) fn follow_until_now(&self) -> String {
        told(&run_well(self.follow().arg("--until-now")))
    }

    /// The cursor that is stored.
    pub(crate) fn cursor(&self) -> u64 {
        let sql = "SELECT coalesce(max(cursor), 0) FROM skyfill.stream";
        let cursor: i64 = self.db.client().query_one(sql, &[]).unwrap().get(0);
        u64::try_from(cursor).unwrap()
    }

    /// Asserts that the tables are those of a load of the network as it is now, and are proved.
    /// `said` is what skyfill printed.
    pub(crate) fn assert_followed(&self, said: &str) {
        let (states, mut sleeping) = (states(&self.db), Vec::new());
        for (did, expected) in self.network.expected() {
            let state = states.get(&did).map(String::as_str);
            match expected {
                Expected::State("deleted") => assert!(
                    matches!(state, None | Some("deleted" | "not found")),
                    "{did}, which is deleted, is {state:?}: {said}"
                ),
                Expected::State(gone) => {
                    assert_eq!(state, Some(gone), "{did}: {said}");
                    sleeping.push(did);
                }
                _ => assert_eq!(state, Some("loaded"), "{did}: {said}"),
            }
        }
        let behind = behind(&self.db);
        assert!(behind.is_empty(), "{behind:#?}\n{said}");
        crate::follow::assert_proved(&self.db);
        // Accounts that are not active keep their rows, and a load of now would not have them.
        remove_for_comparison(&self.db, &sleeping);
        let reference = filled_from_cars(&self.network, |_| true);
        if let Some(difference) = difference(&comparable(&self.db), &comparable(&reference)) {
            panic!("{difference}\n{said}");
        }
    }
}

/// Repos that are behind, with all that is known of them.
fn behind(db: &TestDb) -> Vec<String> {
    let sql = "SELECT to_jsonb(b)::text || (to_jsonb(r) - '{commit}'::text[])::text
      FROM skyfill.behind b JOIN skyfill.repo r USING (schema_name, did) WHERE NOT b.is_settled";
    let rows = db.client().query(sql, &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Rows without the times of events; CARs do not tell of accounts that are not active.
fn comparable(db: &TestDb) -> BTreeMap<String, Vec<String>> {
    let mut dump = crate::follow::without_times(db);
    if let Some(actors) = dump.get_mut("actor") {
        actors.retain(|row| row.contains("\"upstreamStatus\":null"));
    }
    dump
}

pub(crate) fn pace(per_second: f64) -> Pace {
    Pace {
        per_second,
        burst: None,
    }
}

#[test]
fn a_life_that_is_followed_leaves_the_tables_of_a_load() {
    let scene = Scene::new(1831, 90);
    let life = LiveSettings {
        seed: 3,
        events: 1500,
        ..LiveSettings::default()
    };
    let playing = scene.network.live(&life).start(pace(400.0));
    let following = Watched::start(&mut scene.follow());
    let last = playing.last_seq();
    drop(playing.wait());
    wait_until("the cursor at the end of the life", || {
        scene.cursor() >= last
    });
    signal(&following.child, "TERM");
    let asked = std::time::Instant::now();
    let (code, printed) = following.end();
    assert_eq!(code, Some(4), "{printed}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{printed}");
    let more = scene.follow_until_now();
    scene.assert_followed(&format!("{printed}\n{more}"));
}

#[test]
fn every_fault_of_a_stream_is_made_good() {
    let scene = Scene::new(1832, 90);
    let faults = StreamFault::ALL.iter().copied();
    let life = LiveSettings {
        seed: 5,
        events: 1200,
        // A stall takes the twenty seconds after which a silent relay is asked again.
        faults: faults
            .filter(|fault| *fault != StreamFault::Stall)
            .collect(),
        fault_every: 8,
        ..LiveSettings::default()
    };
    let playing = scene.network.live(&life).start(pace(300.0));
    let early = scene.follow_until_now();
    drop(playing.wait());
    let more = scene.follow_until_now();
    scene.assert_followed(&format!("{early}\n{more}"));
}

#[test]
fn what_a_killed_follower_took_back_is_no_foreign_writers() {
    let scene = Scene::new(1834, 60);
    crate::changes::without_autovacuum(&scene.db);
    scene.network.change(3, 60);
    let mut follow = scene.follow();
    let killed = follow.arg("--until-now").env("SKYFILL_FAILPOINT", "commit");
    let killed = killed.output().unwrap();
    assert_eq!(killed.status.code(), None, "{}", told(&killed));
    wait_until("the end of the sessions of the killed one", || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'skyfill follow'";
        scene
            .db
            .client()
            .query_one(sql, &[])
            .unwrap()
            .get::<_, i64>(0)
            == 0
    });
    let said = scene.follow_until_now();
    assert!(!said.contains("another program"), "{said}");
    scene.assert_followed(&said);
}

/// What the interrupted computation took is noted nowhere else, and no event comes after it.
#[test]
fn a_computation_that_was_interrupted_is_ended_without_another_event() {
    let scene = Scene::new(1835, 60);
    let life = LiveSettings {
        seed: 9,
        events: 200,
        commits: 1000,
        ..LiveSettings::default()
    };
    scene.network.live(&life).play_all();
    let mut follow = scene.follow();
    let killed = follow
        .arg("--until-now")
        .env("SKYFILL_FAILPOINT", "slice=2");
    let killed = killed.output().unwrap();
    assert_eq!(killed.status.code(), None, "{}", told(&killed));
    let begun = || -> i64 {
        let sql = "SELECT count(*) FROM skyfill.finalize_slice WHERE NOT done";
        scene.db.client().query_one(sql, &[]).unwrap().get(0)
    };
    assert!(begun() > 0);
    let said = scene.follow_until_now();
    assert_eq!(begun(), 0, "{said}");
    scene.assert_followed(&said);
}

#[test]
fn kills_on_the_way_lose_nothing() {
    let scene = Scene::new(1833, 90);
    let life = LiveSettings {
        seed: 7,
        events: 1500,
        wall_clock: true,
        ..LiveSettings::default()
    };
    let playing = scene.network.live(&life).start(pace(250.0));
    let mut random = simnet::Random::new(7);
    let mut printed = String::new();
    for _ in 0..6 {
        let mut following = Watched::start(&mut scene.follow());
        std::thread::sleep(Duration::from_secs_f64(0.3 + random.unit()));
        following.child.kill().unwrap();
        printed.push_str(&following.end().1);
    }
    drop(playing.wait());
    printed.push_str(&scene.follow_until_now());
    scene.assert_followed(&printed);
}
