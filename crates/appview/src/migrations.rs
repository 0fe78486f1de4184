//! The official migrations, as the statements that they run on PostgreSQL
//! (`data-plane/server/db/migrations` of `@atproto/bsky` 0.0.280).
//!
//! The name of a step in `kysely_migration` is an underscore and the time in its file name. Names
//! in the statements are not qualified: they refer to the first schema of `search_path`. To follow
//! a new official version, add its steps as files in `migrations/` and to the list here.

/// One official step.
#[derive(Debug)]
pub struct Migration {
    /// Its row in `kysely_migration`.
    pub name: &'static str,
    /// Its subject, from the official file name.
    pub title: &'static str,
    /// Its statements.
    pub sql: &'static str,
}

macro_rules! steps {
    ($($time:literal $title:literal,)*) => {
        &[$(Migration {
            name: concat!("_", $time),
            title: $title,
            sql: include_str!(concat!("../migrations/", $time, "-", $title, ".sql")),
        },)*]
    };
}

/// All steps, in the order in which they run.
#[rustfmt::skip]
pub static MIGRATIONS: &[Migration] = steps![
    "20230309T045948368Z" "init",
    "20230408T152211201Z" "notification-init",
    "20230417T210628672Z" "moderation-init",
    "20230420T211446071Z" "did-cache",
    "20230427T194702079Z" "notif-record-index",
    "20230605T144730094Z" "post-profile-aggs",
    "20230607T211442112Z" "feed-generator-init",
    "20230608T155101190Z" "algo-whats-hot-view",
    "20230608T201813132Z" "mute-lists",
    "20230608T205147239Z" "mutes",
    "20230609T153623961Z" "blocks",
    "20230609T232122649Z" "actor-deletion-indexes",
    "20230610T203555962Z" "suggested-follows",
    "20230611T215300060Z" "actor-state",
    "20230620T161134972Z" "post-langs",
    "20230627T212437895Z" "optional-handle",
    "20230629T220835893Z" "remove-post-hierarchy",
    "20230703T045536691Z" "feed-and-label-indices",
    "20230720T164800037Z" "posts-cursor-idx",
    "20230807T035309811Z" "feed-item-delete-invite-for-user-idx",
    "20230808T172902639Z" "repo-rev",
    "20230810T203349843Z" "action-duration",
    "20230817T195936007Z" "native-notifications",
    "20230830T205507322Z" "suggested-feeds",
    "20230904T211011773Z" "block-lists",
    "20230906T222220386Z" "thread-gating",
    "20230920T213858047Z" "add-tags-to-post",
    "20230929T192920807Z" "record-cursor-indexes",
    "20231003T202833377Z" "create-moderation-subject-status",
    "20231220T225126090Z" "blob-takedowns",
    "20240124T023719200Z" "tagged-suggestions",
    "20240226T225725627Z" "labelers",
    "20240530T170337073Z" "account-deactivation",
    "20240606T171229898Z" "thread-mutes",
    "20240606T222548219Z" "starter-packs",
    "20240719T203853939Z" "priority-notifs",
    "20240723T220700077Z" "quotes-post-aggs",
    "20240723T220703655Z" "quotes",
    "20240801T193939827Z" "post-gate",
    "20240808T224251220Z" "post-gate-flags",
    "20240829T211238293Z" "simplify-actor-sync",
    "20240831T134810923Z" "pinned-posts",
    "20241114T153108102Z" "add-starter-packs-name",
    "20250116T222618297Z" "post-embed-video",
    "20250207T174822012Z" "add-label-exp",
    "20250404T163421487Z" "verifications",
    "20250526T023712742Z" "like-repost-via",
    "20250528T221913281Z" "add-record-tags",
    "20250602T190357447Z" "add-private-data",
    "20250611T140649895Z" "add-activity-subscription",
    "20250627T025331240Z" "add-actor-age-assurance-columns",
    "20250812T183735692Z" "add-bookmarks",
    "20250813T174955711Z" "add-post-agg-bookmarks",
    "20251120T004738098Z" "update-actor-age-assurance-v2",
    "20260112T133951271Z" "add-drafts",
    "20260604T224952774Z" "post-embed-gallery-image",
    "20260618T200000000Z" "add-mute-scope",
    "20260729T223157563Z" "add-op-thread-reply",
    "20260819T170000000Z" "add-like-subject-sort-index",
    "20260827T200000000Z" "reference-list-opt-outs",
    "20260904T130000000Z" "remove-last-seen-priority-notifs",
];
