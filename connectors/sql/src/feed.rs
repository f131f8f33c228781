//! Observations of a unit: an initial scan in bounded pages, then what changed.
//!
//! No key stands in a cursor. PostgreSQL is scanned by ranges of blocks and SQLite by ranges of row numbers whose bounds are round, so a cursor says where the
//! scan is without naming anybody's row. Changes are followed by the tables' times of change; rows whose transaction became visible late are
//! caught by reading the last `late_ms` again, which repeats harmlessly.

use std::collections::BTreeSet;

use lethe_kit::{Error as Failure, FeedPage};
use serde::{Deserialize, Serialize};

use crate::catalog::as_text;
use crate::connector::SqlConnector;
use crate::db::{Begin, Dialect, Tx, quoted};
use crate::error::{Stage, failure};
use crate::model::{Key, Unit};
use crate::read;

/// Most rows in a block of PostgreSQL: 8,192 bytes, less the page header, at 28 bytes for a row without data.
const ROWS_PER_BLOCK: usize = 291;
/// SQLite's rows are passed in buckets of this size, so that a cursor names a bucket and no row.
const BUCKET_ROWS: i64 = 128;
const BUCKET_SHIFT: u32 = BUCKET_ROWS.ilog2();
/// Rows of one page at most, whatever was asked for: bounds the memory of a page.
const PAGE_ROWS_MAX: usize = 2_000;

fn before(error: sqlx::Error) -> Failure {
    failure(&error, Stage::Before)
}

/// Where a table's changes were read to: a time, and within it a place that sorts rows of the same time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Mark {
    at: String,
    place: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// Up to which block or row number everything was read, rows so far and in total, which file it was, and when it began.
    Scan {
        to: i64,
        rows: u64,
        total: u64,
        file: String,
        began: String,
    },
    /// Which table is being read and where each stands; those of the round before begin where they ended.
    Follow { table: usize, marks: Vec<Mark> },
}

/// The connector's own mark, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    v: u8,
    /// Which tables of which file the marks are for: another mapping or a restored file begins anew.
    of: u32,
    phase: Phase,
}

const VERSION: u8 = 1;

/// A small number that changes with the tables of a unit and with SQLite's file (FNV-1a).
fn shape(unit: &Unit, file: Option<u64>) -> u32 {
    let names = unit.tables.iter().flat_map(|t| {
        [
            t.sql.as_str(),
            t.updated_at.as_ref().map_or("", |c| c.name.as_str()),
        ]
    });
    let file = file.map(u64::to_le_bytes).into_iter().flatten();
    names
        .flat_map(str::bytes)
        .chain(file)
        .fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        })
}

impl SqlConnector {
    pub(crate) async fn feed_unit(
        &self,
        unit: &Unit,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<FeedPage, Failure> {
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        let cursor: Option<Cursor> = match cursor {
            None => None,
            Some(text) => Some(serde_json::from_str(text).map_err(|_| Failure::Permanent {
                code: "sql-cursor",
                reason: "the cursor is not one of this connector's: expected what feed returned, or none to begin anew".to_owned(),
            })?),
        };
        let mut tx = self.work.begin(Begin::Read).await.map_err(before)?;
        let phase = cursor
            .filter(|c| c.v == VERSION && c.of == shape(unit, self.work.file_number()))
            .map(|c| c.phase);
        let page = match phase {
            Some(Phase::Follow { table, marks }) => self.follow(&mut tx, unit, table, marks, limit).await,
            scan => self.scan(&mut tx, unit, scan, limit).await,
        };
        let mut page = page.map_err(before)?;
        let strange = self.strange.of(&unit.name);
        let strange = read::records(&mut tx, self.statements(unit), &strange).await;
        page.observations.extend(strange.map_err(before)?);
        tx.rollback().await.map_err(before)?;
        Ok(page)
    }

    fn written(&self, unit: &Unit, phase: Phase) -> String {
        serde_json::to_string(&Cursor {
            v: VERSION,
            of: shape(unit, self.work.file_number()),
            phase,
        })
        .unwrap_or_default()
    }

    async fn scan(
        &self,
        tx: &mut Tx,
        unit: &Unit,
        phase: Option<Phase>,
        limit: usize,
    ) -> Result<FeedPage, sqlx::Error> {
        let file = self.file(tx, unit).await?;
        let (from, rows, total, began) = match phase {
            // A table that was rewritten in between has its rows elsewhere.
            Some(Phase::Scan {
                to,
                rows,
                total,
                file: same,
                began,
            }) if same == file => (to, rows, total, began),
            _ => (0, 0, count(tx, unit).await?, now(tx, self.late_ms).await?),
        };
        let (keys, to) = match self.work.dialect() {
            Dialect::Postgres => self.scan_blocks(tx, unit, from, limit).await?,
            Dialect::Sqlite => self.scan_numbers(tx, unit, from, limit).await?,
        };
        let rows = rows + keys.len() as u64;
        let observations = read::records(tx, self.statements(unit), &keys).await?;
        let more = to.is_some();
        let phase = match to {
            Some(to) => Phase::Scan {
                to,
                rows,
                total,
                file,
                began,
            },
            None => Phase::Follow {
                table: 0,
                marks: vec![
                    Mark {
                        at: began,
                        place: String::new()
                    };
                    unit.tables.len()
                ],
            },
        };
        Ok(FeedPage {
            observations,
            cursor: self.written(unit, phase),
            more,
            progress: Some((rows, total.max(rows))),
            ..FeedPage::default()
        })
    }

    /// Names the file that the rows stand in: it changes when a table is rewritten.
    async fn file(&self, tx: &mut Tx, unit: &Unit) -> Result<String, sqlx::Error> {
        if self.work.dialect() == Dialect::Sqlite {
            return Ok(String::new());
        }
        one(
            tx,
            "SELECT pg_relation_filenode($1::text::regclass)::text",
            &[&unit.root().sql],
        )
        .await
    }

    async fn scan_blocks(
        &self,
        tx: &mut Tx,
        unit: &Unit,
        from: i64,
        limit: usize,
    ) -> Result<(Vec<Key>, Option<i64>), sqlx::Error> {
        let root = &unit.root().sql;
        // The statistics of the table can be stale by any factor, so a page counts with as many rows as a block can hold.
        let size =
            "SELECT (pg_relation_size($1::text::regclass) / current_setting('block_size')::bigint)::text";
        let row = tx
            .rows(size, &[root])
            .await?
            .into_iter()
            .next()
            .unwrap_or_default();
        let blocks = row
            .first()
            .and_then(Option::as_deref)
            .and_then(|text| text.parse::<i64>().ok())
            .unwrap_or(0);
        let to = from + i64::try_from((limit / ROWS_PER_BLOCK).max(1)).unwrap_or(1);
        let condition = format!("t0.ctid >= '({from},0)'::tid AND t0.ctid < '({to},0)'::tid");
        let keys = self.keys_where(tx, unit, &condition, &[]).await?;
        Ok((keys, (to < blocks).then_some(to)))
    }

    async fn scan_numbers(
        &self,
        tx: &mut Tx,
        unit: &Unit,
        from: i64,
        limit: usize,
    ) -> Result<(Vec<Key>, Option<i64>), sqlx::Error> {
        let root = &unit.root().sql;
        // Zero means the beginning: row numbers may be negative.
        let lower = if from == 0 {
            "1 = 1".to_owned()
        } else {
            format!("t0.rowid >= {from}")
        };
        let beyond = format!(
            "SELECT CAST(t0.rowid AS TEXT) FROM {root} AS t0 WHERE {lower} ORDER BY t0.rowid LIMIT 1 OFFSET {limit}"
        );
        let Ok(next) = one(tx, &beyond, &[]).await?.parse::<i64>() else {
            return Ok((self.keys_where(tx, unit, &lower, &[]).await?, None));
        };
        // A bound is round, so that it names nobody's row, and lies behind the page's first row, so that the scan gets on.
        let first = one(
            tx,
            &format!("SELECT CAST(min(t0.rowid) AS TEXT) FROM {root} AS t0 WHERE {lower}"),
            &[],
        )
        .await?;
        let first = first.parse::<i64>().unwrap_or(next).div_euclid(BUCKET_ROWS);
        let end = next.div_euclid(BUCKET_ROWS).max(first + 1) * BUCKET_ROWS;
        let end = if end == 0 { BUCKET_ROWS } else { end };
        let keys = self
            .keys_where(tx, unit, &format!("{lower} AND t0.rowid < {end}"), &[])
            .await?;
        Ok((keys, Some(end)))
    }

    async fn keys_where(
        &self,
        tx: &mut Tx,
        unit: &Unit,
        condition: &str,
        args: &[&str],
    ) -> Result<Vec<Key>, sqlx::Error> {
        let key: Vec<String> = unit
            .key
            .iter()
            .map(|c| as_text(self.work.dialect(), &format!("t0.{}", quoted(&c.name)), c.class))
            .collect();
        let sql = format!(
            "SELECT {} FROM {} AS t0 WHERE {condition}",
            key.join(", "),
            unit.root().sql
        );
        let rows = tx.rows(&sql, args).await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| row.into_iter().collect())
            .collect())
    }

    /// Reads a page of changes of one table after the other; a round ends when none has more.
    async fn follow(
        &self,
        tx: &mut Tx,
        unit: &Unit,
        table: usize,
        mut marks: Vec<Mark>,
        limit: usize,
    ) -> Result<FeedPage, sqlx::Error> {
        let done = |marks, table, observations, more| FeedPage {
            observations,
            cursor: self.written(unit, Phase::Follow { table, marks }),
            more,
            ..FeedPage::default()
        };
        let settled = now(tx, self.late_ms).await?;
        let mut keys: BTreeSet<Key> = BTreeSet::new();
        let mut room = limit;
        for index in table..unit.tables.len() {
            if unit.tables[index].updated_at.is_none() {
                continue;
            }
            let rows = self
                .changed(tx, unit, index, &mut marks[index], room, &mut keys)
                .await?;
            if rows >= room {
                let observations =
                    read::records(tx, self.statements(unit), &keys.into_iter().collect::<Vec<_>>()).await?;
                return Ok(done(marks, index, observations, true));
            }
            room -= rows;
        }
        // What is younger may still get company from transactions that began earlier.
        for mark in &mut marks {
            if mark.at > settled {
                *mark = Mark {
                    at: settled.clone(),
                    place: String::new(),
                };
            }
        }
        let observations =
            read::records(tx, self.statements(unit), &keys.into_iter().collect::<Vec<_>>()).await?;
        Ok(done(marks, 0, observations, false))
    }

    /// Takes rows of a table from its mark on and moves the mark; returns how many there were.
    async fn changed(
        &self,
        tx: &mut Tx,
        unit: &Unit,
        index: usize,
        mark: &mut Mark,
        limit: usize,
        keys: &mut BTreeSet<Key>,
    ) -> Result<usize, sqlx::Error> {
        let statements = self.statements(unit);
        let Some(sql) = statements.changed_since(index, !mark.place.is_empty(), BUCKET_SHIFT) else {
            return Ok(0);
        };
        // A bucket must fit into a page, or the mark would never move.
        let limit = match self.work.dialect() {
            Dialect::Postgres => limit,
            Dialect::Sqlite => limit.max(usize::try_from(BUCKET_ROWS).unwrap_or(limit) + 1),
        };
        let limit_text = limit.to_string();
        let mut args = vec![limit_text.as_str(), mark.at.as_str()];
        if !mark.place.is_empty() {
            args.push(mark.place.as_str());
        }
        let rows = tx.rows(&sql, &args).await?;
        let count = rows.len();
        let mut last = None;
        for mut row in rows {
            let place = row.pop().flatten().unwrap_or_default();
            let at = row.pop().flatten().unwrap_or_default();
            last = Some(Mark { at, place });
            keys.extend(row.into_iter().collect::<Option<Key>>());
        }
        if let Some(mut last) = last {
            if self.work.dialect() == Dialect::Sqlite && count >= limit {
                // The last bucket may have more rows than were taken.
                let bucket: i64 = last.place.parse().unwrap_or(0);
                last.place = (bucket - 1).to_string();
            }
            *mark = last;
        }
        Ok(count)
    }
}

async fn one(tx: &mut Tx, sql: &str, args: &[&str]) -> Result<String, sqlx::Error> {
    Ok(tx
        .rows(sql, args)
        .await?
        .into_iter()
        .flatten()
        .flatten()
        .next()
        .unwrap_or_default())
}

/// Rows of the root: the planner's estimate where there is one, else counted.
async fn count(tx: &mut Tx, unit: &Unit) -> Result<u64, sqlx::Error> {
    let root = &unit.root().sql;
    if matches!(tx, Tx::Postgres(_)) {
        let estimate = "SELECT reltuples::bigint::text FROM pg_class WHERE oid = $1::text::regclass AND relpages > 0 AND reltuples > 0";
        if let Ok(rows) = one(tx, estimate, &[root]).await?.parse() {
            return Ok(rows);
        }
    }
    Ok(
        one(tx, &format!("SELECT CAST(count(*) AS text) FROM {root}"), &[])
            .await?
            .parse()
            .unwrap_or(0),
    )
}

/// The database's clock, so many milliseconds ago: no transaction that began before is still open.
async fn now(tx: &mut Tx, late_ms: u64) -> Result<String, sqlx::Error> {
    let sql = match tx {
        Tx::Postgres(_) => format!("SELECT (clock_timestamp() - interval '{late_ms} milliseconds')::text"),
        Tx::Sqlite(_) => format!(
            "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now', '-{}.{:03} seconds')",
            late_ms / 1000,
            late_ms % 1000
        ),
    };
    one(tx, &sql, &[]).await
}
