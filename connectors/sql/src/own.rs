//! Lethe's own tables in the target: which instructions were done with which receipt, and the newest generation that was seen for a record.
//!
//! They are written in the transaction that does the work, so a receipt exists exactly when the work does. No personal data stands in them: a record is
//! named by a keyed digest, whose key is drawn at random and stays in the same database. That is still a pseudonym for the owner of the database, so
//! entries end `remember_days` after they were last used.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use lethe_kit::{Ask, Receipt};
use lethe_terms::DatasetName;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::db::{Begin, Dialect, Pool, Tx};
use crate::key::handle;
use crate::model::Key;

/// Bytes of a digest: no two records of one company meet by chance.
const DIGEST_BYTES: usize = 16;

const POSTGRES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS lethe_instructions (id text PRIMARY KEY, dataset text NOT NULL, verb text NOT NULL, plan_index bigint NOT NULL,
        step bigint NOT NULL, receipt text NOT NULL, recorded_at timestamptz NOT NULL DEFAULT now())",
    "CREATE TABLE IF NOT EXISTS lethe_records (dataset text NOT NULL, record text NOT NULL, plan_index bigint NOT NULL, step bigint NOT NULL,
        marked smallint NOT NULL, seen_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (dataset, record))",
    "CREATE TABLE IF NOT EXISTS lethe_digest_key (one smallint PRIMARY KEY CHECK (one = 1), digest_key text NOT NULL)",
];
const SQLITE: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS lethe_instructions (id TEXT PRIMARY KEY, dataset TEXT NOT NULL, verb TEXT NOT NULL, plan_index INTEGER NOT NULL,
        step INTEGER NOT NULL, receipt TEXT NOT NULL, recorded_at TEXT NOT NULL DEFAULT (datetime('now')))",
    "CREATE TABLE IF NOT EXISTS lethe_records (dataset TEXT NOT NULL, record TEXT NOT NULL, plan_index INTEGER NOT NULL, step INTEGER NOT NULL,
        marked INTEGER NOT NULL, seen_at TEXT NOT NULL DEFAULT (datetime('now')), PRIMARY KEY (dataset, record))",
    "CREATE TABLE IF NOT EXISTS lethe_digest_key (one INTEGER PRIMARY KEY CHECK (one = 1), digest_key TEXT NOT NULL)",
];

/// Names of the tables, so that the rest of the connector can pass over them.
pub(crate) const TABLES: [&str; 3] = ["lethe_instructions", "lethe_records", "lethe_digest_key"];

/// What an instruction left behind.
pub(crate) struct Stored {
    pub(crate) dataset: String,
    pub(crate) verb: String,
    pub(crate) receipt: Receipt,
}

/// The wire form of a receipt in the table.
#[derive(Serialize, Deserialize)]
struct ReceiptWire {
    outcome: lethe_terms::Outcome,
    records: u64,
    details: BTreeMap<String, u64>,
}

/// What is remembered of one record.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Remembered {
    pub(crate) generation: (u64, u32),
    /// Whether the mark on the record is Lethe's.
    pub(crate) marked: bool,
}

/// Access to the tables.
#[derive(Clone)]
pub(crate) struct Own {
    dialect: Dialect,
    digest_key: [u8; 32],
    remember_days: u32,
}

impl Own {
    /// Creates the tables where the owner allows. `None` where not.
    pub(crate) async fn open(pool: &Pool, remember_days: u32) -> Result<Option<Self>, sqlx::Error> {
        let dialect = pool.dialect();
        if !readable(pool).await? && !create(pool).await? {
            return Ok(None);
        }
        let mut fresh = [0; 32];
        if getrandom::fill(&mut fresh).is_err() {
            return Ok(None);
        }
        let mut tx = pool.begin(Begin::Write).await?;
        let arg = crate::db::arg(dialect, 1);
        let insert = format!(
            "INSERT INTO lethe_digest_key (one, digest_key) VALUES (1, {arg}) ON CONFLICT (one) DO NOTHING"
        );
        tx.run(&insert, &[&hex::encode(fresh)]).await?;
        let rows = tx
            .rows("SELECT digest_key FROM lethe_digest_key WHERE one = 1", &[])
            .await?;
        tx.commit().await?;
        let text = rows.into_iter().flatten().flatten().next().unwrap_or_default();
        let mut digest_key = [0; 32];
        if hex::decode_to_slice(text, &mut digest_key).is_err() {
            return Ok(None);
        }
        let own = Self {
            dialect,
            digest_key,
            remember_days,
        };
        own.end_old(pool).await?;
        Ok(Some(own))
    }

    fn digest(&self, dataset: &DatasetName, key: &Key) -> String {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.digest_key)
            .unwrap_or_else(|_| Hmac::new(&Default::default()));
        mac.update(dataset.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(handle(key).as_bytes());
        hex::encode(&mac.finalize().into_bytes()[..DIGEST_BYTES])
    }

    fn statement(&self, sql: &str) -> String {
        match self.dialect {
            Dialect::Postgres => sql.to_owned(),
            Dialect::Sqlite => (1..=9)
                .rev()
                .fold(sql.replace("::text", "").replace("::bigint", ""), |sql, n| {
                    sql.replace(&format!("${n}"), &format!("?{n}"))
                }),
        }
    }

    /// What was stored for an instruction.
    pub(crate) async fn stored(&self, tx: &mut Tx, id: &str) -> Result<Option<Stored>, sqlx::Error> {
        let sql = self.statement("SELECT dataset, verb, receipt FROM lethe_instructions WHERE id = $1::text");
        let Some(row) = tx.rows(&sql, &[id]).await?.into_iter().next() else {
            return Ok(None);
        };
        let mut row = row.into_iter().map(Option::unwrap_or_default);
        let mut next = || row.next().unwrap_or_default();
        let (dataset, verb, receipt) = (next(), next(), next());
        let wire: ReceiptWire =
            serde_json::from_str(&receipt).map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
        let receipt = Receipt {
            outcome: wire.outcome,
            records: wire.records,
            details: wire.details,
        };
        Ok(Some(Stored {
            dataset,
            verb,
            receipt,
        }))
    }

    /// Stores the receipt; `false` where the id is there already. Waits for another transaction that is storing the same id.
    pub(crate) async fn store(&self, tx: &mut Tx, ask: &Ask, receipt: &Receipt) -> Result<bool, sqlx::Error> {
        let wire = ReceiptWire {
            outcome: receipt.outcome,
            records: receipt.records,
            details: receipt.details.clone(),
        };
        let json = serde_json::to_string(&wire).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
        let sql = self.statement(
            "INSERT INTO lethe_instructions (id, dataset, verb, plan_index, step, receipt)
                VALUES ($1::text, $2::text, $3::text, $4::text::bigint, $5::text::bigint, $6::text) ON CONFLICT (id) DO NOTHING",
        );
        let (id, plan_index, step) = (
            ask.id.to_string(),
            ask.generation.0.to_string(),
            ask.generation.1.to_string(),
        );
        let args = [
            id.as_str(),
            ask.dataset.as_str(),
            ask.verb.code(),
            &plan_index,
            &step,
            &json,
        ];
        Ok(tx.run(&sql, &args).await? == 1)
    }

    /// What is remembered of these records, by position; those of which nothing is known are left out.
    pub(crate) async fn remembered(
        &self,
        tx: &mut Tx,
        dataset: &DatasetName,
        keys: &[Key],
    ) -> Result<BTreeMap<usize, Remembered>, sqlx::Error> {
        let digests: Vec<String> = keys.iter().map(|key| self.digest(dataset, key)).collect();
        let columns = "record, CAST(plan_index AS text), CAST(step AS text), CAST(marked AS text)";
        let sql = match self.dialect {
            Dialect::Postgres => format!(
                "SELECT {columns} FROM lethe_records WHERE dataset = $1::text
                    AND record = ANY (ARRAY(SELECT v FROM jsonb_array_elements_text($2::text::jsonb) AS k(v))) ORDER BY record FOR UPDATE"
            ),
            Dialect::Sqlite => format!(
                "SELECT {columns} FROM lethe_records WHERE dataset = ?1 AND record IN (SELECT value FROM json_each(?2))"
            ),
        };
        let json = serde_json::to_string(&digests).unwrap_or_default();
        let mut found = BTreeMap::new();
        for row in tx.rows(&sql, &[dataset.as_str(), &json]).await? {
            let [Some(digest), Some(plan_index), Some(step), Some(marked)] = row.as_slice() else {
                continue;
            };
            let Some(place) = digests.iter().position(|d| d == digest) else {
                continue;
            };
            let generation = (
                plan_index.parse().unwrap_or(u64::MAX),
                step.parse().unwrap_or(u32::MAX),
            );
            found.insert(
                place,
                Remembered {
                    generation,
                    marked: marked != "0",
                },
            );
        }
        Ok(found)
    }

    /// Remembers this generation for these records, and whether the mark on each is Lethe's.
    pub(crate) async fn remember(
        &self,
        tx: &mut Tx,
        ask: &Ask,
        records: &[(Key, bool)],
    ) -> Result<(), sqlx::Error> {
        let mut entries: Vec<(String, u8)> = records
            .iter()
            .map(|(key, marked)| (self.digest(&ask.dataset, key), u8::from(*marked)))
            .collect();
        entries.sort();
        let json = serde_json::to_string(&entries).unwrap_or_default();
        let (select, now) = match self.dialect {
            Dialect::Postgres => (
                "SELECT $1::text, v->>0, $3::text::bigint, $4::text::bigint, (v->>1)::smallint FROM jsonb_array_elements($2::text::jsonb) AS k(v)",
                "now()",
            ),
            Dialect::Sqlite => (
                "SELECT ?1, json_extract(value, '$[0]'), CAST(?3 AS INTEGER), CAST(?4 AS INTEGER), json_extract(value, '$[1]')
                    FROM json_each(?2) WHERE true",
                "datetime('now')",
            ),
        };
        let sql = format!(
            "INSERT INTO lethe_records (dataset, record, plan_index, step, marked) {select} ON CONFLICT (dataset, record)
                DO UPDATE SET plan_index = excluded.plan_index, step = excluded.step, marked = excluded.marked, seen_at = {now}"
        );
        let (plan_index, step) = (ask.generation.0.to_string(), ask.generation.1.to_string());
        tx.run(&sql, &[ask.dataset.as_str(), &json, &plan_index, &step])
            .await?;
        Ok(())
    }

    /// Ends what nobody can ask for any more. Marks that are still Lethe's are kept: lifting needs to know.
    pub(crate) async fn end_old(&self, pool: &Pool) -> Result<(), sqlx::Error> {
        let before = match self.dialect {
            Dialect::Postgres => format!("now() - interval '{} days'", self.remember_days),
            Dialect::Sqlite => format!("datetime('now', '-{} days')", self.remember_days),
        };
        let mut tx = pool.begin(Begin::Write).await?;
        tx.run(
            &format!("DELETE FROM lethe_instructions WHERE recorded_at < {before}"),
            &[],
        )
        .await?;
        tx.run(
            &format!("DELETE FROM lethe_records WHERE seen_at < {before} AND marked = 0"),
            &[],
        )
        .await?;
        tx.commit().await
    }
}

/// Whether the tables are there already and may be used.
async fn readable(pool: &Pool) -> Result<bool, sqlx::Error> {
    let mut tx = pool.begin(Begin::Read).await?;
    for table in TABLES {
        match tx.rows(&format!("SELECT '1' FROM {table} LIMIT 1"), &[]).await {
            Ok(_) => {}
            Err(sqlx::Error::Database(_)) => return Ok(false),
            Err(other) => return Err(other),
        }
    }
    tx.rollback().await?;
    Ok(true)
}

/// Creates the tables; `false` where the owner does not allow it.
async fn create(pool: &Pool) -> Result<bool, sqlx::Error> {
    let mut tx = pool.begin(Begin::Write).await?;
    let statements = match pool.dialect() {
        Dialect::Postgres => {
            // Two that start at the same time must not both create.
            tx.rows(
                "SELECT pg_advisory_xact_lock(hashtext('lethe_instructions'))::text",
                &[],
            )
            .await?;
            POSTGRES
        }
        Dialect::Sqlite => SQLITE,
    };
    for statement in statements {
        match tx.run(statement, &[]).await {
            Ok(_) => {}
            Err(sqlx::Error::Database(_)) => return Ok(false),
            Err(other) => return Err(other),
        }
    }
    tx.commit().await?;
    Ok(true)
}
