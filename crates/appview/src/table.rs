//! The tables that repos fill, with each column list in one place. Columns that repos do not own
//! (`takedownRef`, `record.tags`, counts, flags) and generated ones (`sortAt`, `sortedAt`) are left
//! out: a load never names them.

/// The type of a column, as far as COPY needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `varchar` or `text`.
    Text,
    /// `jsonb`.
    Jsonb,
}

/// A column that a load writes.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name, with upper and lower case.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
}

/// What leads to the rows of a record where the index of the table does not begin with the
/// record's URI.
#[derive(Clone, Copy, Debug)]
pub struct Lead {
    /// The first column of the table and of its primary key. It refers to a record of the same
    /// account, or to the account as a whole (`at://DID`), which sorts before the URIs of its
    /// records.
    pub column: &'static str,
    /// The column of `post` with the same value: the post that a row belongs to knows it.
    pub of_post: &'static str,
}

/// A table with `N` columns to write. The count ties a row to its table at compile time.
#[derive(Debug)]
pub struct Table<const N: usize> {
    columns: [Column; N],
    name: &'static str,
    id: usize,
    uri: &'static str,
    lead: Option<Lead>,
    unique: &'static [&'static str],
}

/// A [`Table`] whose number of columns is known only at run time.
#[derive(Clone, Copy, Debug)]
pub struct TableInfo {
    /// Position in [`ALL`].
    pub id: usize,
    /// Its name.
    pub name: &'static str,
    /// The columns that a load writes, in order.
    pub columns: &'static [Column],
    /// The column with the URI of the record that a row belongs to.
    pub uri: &'static str,
    /// What leads to a row by index, if `uri` does not.
    pub lead: Option<Lead>,
    /// The unique key besides the primary key. A record whose row violates it is a duplicate.
    pub unique: &'static [&'static str],
}

impl TableInfo {
    /// Whether its rows do not depend on the row in their record's own table. A duplicate leaves no
    /// dependent rows. A feed item is written even for a repost that is a duplicate.
    #[must_use]
    pub fn stands_alone(&self) -> bool {
        [RECORD.id, FEED_ITEM.id, DUPLICATE_RECORD.id].contains(&self.id)
    }

    /// The column that the index begins with which leads to the rows of a record or an account.
    #[must_use]
    pub fn index_column(&self) -> &'static str {
        self.lead.map_or(self.uri, |lead| lead.column)
    }

    /// SQL: an item of FROM, called `x`, with the rows of the record whose URI is `uri`. Each is
    /// looked up by index: with a free join, the server reads a table of billions of rows for some
    /// thousand of them as soon as its statistics are off.
    #[must_use]
    pub fn rows_of_record(&self, uri: &str) -> String {
        let Self { name, uri: key, .. } = self;
        let Some(Lead { column, of_post }) = self.lead else {
            return format!(
                "LATERAL (SELECT y.* FROM \"{name}\" y WHERE y.\"{key}\" = {uri} OFFSET 0) x"
            );
        };
        format!(
            "LATERAL (SELECT p.\"{of_post}\" AS lead FROM post p WHERE p.uri = {uri} OFFSET 0) p
             CROSS JOIN LATERAL (SELECT y.* FROM \"{name}\" y
                                 WHERE y.\"{column}\" = p.lead AND y.\"{key}\" = {uri} OFFSET 0) x"
        )
    }

    /// SQL: the condition that a row `x` belongs to an account. `low` is the parameter with the
    /// text that the URIs of its records begin with (`at://DID/`), `high` the one with the least
    /// text after all of these (`at://DID0`). Only where text sorts by bytes.
    #[must_use]
    pub fn is_of_account(&self, low: &str, high: &str) -> String {
        let between = |column: &str, low: &str| {
            format!("x.\"{column}\" >= {low} AND x.\"{column}\" < {high}")
        };
        let own = between(self.uri, low);
        match self.lead {
            None => own,
            Some(lead) => {
                let with_account = format!("left({low}, -1)");
                format!("{own} AND {}", between(lead.column, &with_account))
            }
        }
    }

    /// Its columns, quoted, as a list in SQL.
    #[must_use]
    pub fn column_list(&self) -> String {
        self.columns
            .iter()
            .map(|c| format!("\"{}\"", c.name))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl<const N: usize> Table<N> {
    const fn new(
        id: usize,
        name: &'static str,
        uri: &'static str,
        unique: &'static [&'static str],
        columns: [Column; N],
    ) -> Self {
        Self {
            columns,
            name,
            id,
            uri,
            lead: None,
            unique,
        }
    }

    const fn led_by(mut self, column: &'static str, of_post: &'static str) -> Self {
        self.lead = Some(Lead { column, of_post });
        self
    }

    /// The same, without the count in its type.
    #[must_use]
    pub const fn info(&'static self) -> TableInfo {
        TableInfo {
            id: self.id,
            name: self.name,
            columns: &self.columns,
            uri: self.uri,
            lead: self.lead,
            unique: self.unique,
        }
    }
}

const fn text(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Text,
    }
}

const fn jsonb(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Jsonb,
    }
}

macro_rules! tables {
    ($($(#[$doc:meta])* $id:literal $name:ident<$n:literal> = $table:literal, $uri:literal, $unique:expr, [$($column:expr),* $(,)?] $(, $lead:ident = $of_post:literal)?;)*) => {
        $($(#[$doc])* pub static $name: Table<$n> = Table::new($id, $table, $uri, $unique, [$($column),*])$(.led_by(stringify!($lead), $of_post))?;)*
        /// Every table that repos fill.
        pub static ALL: &[TableInfo] = &[$($name.info()),*];
    };
}

tables! {
    /// Every indexed record, as JSON.
    0 RECORD<5> = "record", "uri", &[],
        [text("uri"), text("cid"), text("did"), text("json"), text("indexedAt")];
    /// `app.bsky.feed.post`.
    1 POST<12> = "post", "uri", &[],
        [text("uri"), text("cid"), text("creator"), text("text"), text("replyRoot"), text("replyRootCid"),
         text("replyParent"), text("replyParentCid"), text("createdAt"), text("indexedAt"), jsonb("langs"), jsonb("tags")];
    /// Posts and reposts, as author feeds list them.
    2 FEED_ITEM<6> = "feed_item", "uri", &[],
        [text("uri"), text("cid"), text("type"), text("postUri"), text("originatorDid"), text("sortAt")];
    /// Images of a post.
    3 POST_EMBED_IMAGE<4> = "post_embed_image", "postUri", &[],
        [text("postUri"), text("position"), text("imageCid"), text("alt")];
    /// Images of a gallery.
    4 POST_EMBED_GALLERY_IMAGE<4> = "post_embed_gallery_image", "postUri", &[],
        [text("postUri"), text("position"), text("imageCid"), text("alt")];
    /// A link card.
    5 POST_EMBED_EXTERNAL<5> = "post_embed_external", "postUri", &[],
        [text("postUri"), text("uri"), text("title"), text("description"), text("thumbCid")];
    /// Records that a post embeds.
    6 POST_EMBED_RECORD<3> = "post_embed_record", "postUri", &[],
        [text("postUri"), text("embedUri"), text("embedCid")];
    /// A video.
    7 POST_EMBED_VIDEO<3> = "post_embed_video", "postUri", &[],
        [text("postUri"), text("videoCid"), text("alt")];
    /// A post that quotes a post.
    8 QUOTE<6> = "quote", "uri", &[],
        [text("uri"), text("cid"), text("subject"), text("subjectCid"), text("createdAt"), text("indexedAt")];
    /// Replies of the author of a thread.
    9 OP_THREAD_REPLY<3> = "op_thread_reply", "uri", &[],
        [text("rootUri"), text("parentUri"), text("uri")], rootUri = "replyRoot";
    /// `app.bsky.feed.like`.
    10 LIKE<9> = "like", "uri", &["subject", "creator"],
        [text("uri"), text("cid"), text("creator"), text("subject"), text("subjectCid"), text("via"), text("viaCid"),
         text("createdAt"), text("indexedAt")];
    /// `app.bsky.feed.repost`.
    11 REPOST<9> = "repost", "uri", &["creator", "subject"],
        [text("uri"), text("cid"), text("creator"), text("subject"), text("subjectCid"), text("via"), text("viaCid"),
         text("createdAt"), text("indexedAt")];
    /// `app.bsky.graph.follow`.
    12 FOLLOW<6> = "follow", "uri", &["creator", "subjectDid"],
        [text("uri"), text("cid"), text("creator"), text("subjectDid"), text("createdAt"), text("indexedAt")];
    /// `app.bsky.graph.block`.
    13 ACTOR_BLOCK<6> = "actor_block", "uri", &["creator", "subjectDid"],
        [text("uri"), text("cid"), text("creator"), text("subjectDid"), text("createdAt"), text("indexedAt")];
    /// `app.bsky.actor.profile`.
    14 PROFILE<10> = "profile", "uri", &[],
        [text("uri"), text("cid"), text("creator"), text("displayName"), text("description"), text("avatarCid"),
         text("bannerCid"), text("joinedViaStarterPackUri"), text("createdAt"), text("indexedAt")];
    /// `app.bsky.graph.list`.
    15 LIST<10> = "list", "uri", &[],
        [text("uri"), text("cid"), text("creator"), text("name"), text("purpose"), text("description"),
         text("descriptionFacets"), text("avatarCid"), text("createdAt"), text("indexedAt")];
    /// `app.bsky.graph.listitem`.
    16 LIST_ITEM<7> = "list_item", "uri", &["listUri", "subjectDid"],
        [text("uri"), text("cid"), text("creator"), text("subjectDid"), text("listUri"), text("createdAt"), text("indexedAt")];
    /// `app.bsky.graph.listblock`.
    17 LIST_BLOCK<6> = "list_block", "uri", &["creator", "subjectUri"],
        [text("uri"), text("cid"), text("creator"), text("subjectUri"), text("createdAt"), text("indexedAt")];
    /// `app.bsky.feed.generator`.
    18 FEED_GENERATOR<10> = "feed_generator", "uri", &[],
        [text("uri"), text("cid"), text("creator"), text("feedDid"), text("displayName"), text("description"),
         text("descriptionFacets"), text("avatarCid"), text("createdAt"), text("indexedAt")];
    /// `app.bsky.graph.starterpack`.
    19 STARTER_PACK<6> = "starter_pack", "uri", &[],
        [text("uri"), text("cid"), text("creator"), text("name"), text("createdAt"), text("indexedAt")];
    /// `app.bsky.labeler.service`.
    20 LABELER<5> = "labeler", "uri", &[],
        [text("uri"), text("cid"), text("creator"), text("createdAt"), text("indexedAt")];
    /// `app.bsky.feed.threadgate`.
    21 THREAD_GATE<6> = "thread_gate", "uri", &["postUri"],
        [text("uri"), text("cid"), text("creator"), text("postUri"), text("createdAt"), text("indexedAt")];
    /// `app.bsky.feed.postgate`.
    22 POST_GATE<6> = "post_gate", "uri", &["postUri"],
        [text("uri"), text("cid"), text("creator"), text("postUri"), text("createdAt"), text("indexedAt")];
    /// `app.bsky.graph.verification`.
    23 VERIFICATION<9> = "verification", "uri", &["subject", "creator"],
        [text("uri"), text("cid"), text("rkey"), text("creator"), text("subject"), text("handle"), text("displayName"),
         text("createdAt"), text("indexedAt")];
    /// `app.bsky.graph.referencelistoptout`.
    24 REFERENCE_LIST_OPT_OUT<6> = "reference_list_opt_out", "uri", &["creator", "subjectUri"],
        [text("uri"), text("cid"), text("creator"), text("subjectUri"), text("createdAt"), text("indexedAt")];
    /// Notifications of an account. `id` comes from the sequence.
    25 NOTIFICATION<7> = "notification", "recordUri", &[],
        [text("did"), text("recordUri"), text("recordCid"), text("author"), text("reason"), text("reasonSubject"), text("sortAt")];
    /// Records that have no row of their own because another record has the same unique key.
    26 DUPLICATE_RECORD<4> = "duplicate_record", "uri", &[],
        [text("uri"), text("cid"), text("duplicateOf"), text("indexedAt")];
}

#[cfg(test)]
mod tests {
    use super::{ALL, POST};

    #[test]
    fn ids_are_positions_and_uri_columns_are_columns() {
        for (at, table) in ALL.iter().enumerate() {
            assert_eq!(table.id, at, "{}", table.name);
            for name in table.unique.iter().chain([&table.uri]) {
                assert!(
                    table.columns.iter().any(|c| c.name == *name),
                    "{}.{name}",
                    table.name
                );
            }
            if let Some(lead) = table.lead {
                assert_eq!(table.columns[0].name, lead.column, "{}", table.name);
                let of_post = |column: &super::Column| column.name == lead.of_post;
                assert!(POST.info().columns.iter().any(of_post), "{}", lead.of_post);
            }
        }
    }
}
