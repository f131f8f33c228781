//! An auditor who knows where everything was put and asks only the systems themselves: is the person gone, and is everybody else as they were?

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use percent_encoding::percent_decode;
use sqlx::{AssertSqlSafe, Row as _};

use crate::seed::Database;
use crate::tables::{Dialect, Row, TABLES, Table};
use crate::{Error, World, logs};

/// An address inside an escaped address inside a query is decoded twice; once more for good measure.
const DECODE_ROUNDS: usize = 3;
/// Findings shown in full; the rest is counted.
const FINDINGS_MAX: usize = 20;

/// The column that every change of a row sets.
const CHANGED: &str = "updated_at";

/// What the auditor saw.
#[derive(Debug, Default)]
pub struct Report {
    /// People, by index, who were restricted and are no longer: the time of the last change of their rows is another one.
    pub lifted: BTreeSet<u32>,
    /// Rows of others that are as they were, by table.
    pub rows: BTreeMap<&'static str, u64>,
    /// Lines of the history that are as they were.
    pub lines: u64,
    /// Lines written after the history.
    pub live_lines: u64,
    /// Rows of the subject whose amounts were kept.
    pub kept: u64,
    /// What is wrong, at most a screenful.
    pub findings: Vec<String>,
    /// How much more is wrong.
    pub more: u64,
}

impl Report {
    fn wrong(&mut self, finding: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }

    /// Whether nothing is wrong.
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Values that only the subject has, lower-case.
pub fn marks(world: &World) -> Vec<String> {
    let subject = world.subject();
    let mut marks = vec![subject.email.to_lowercase(), subject.user_id.to_lowercase()];
    marks.extend(subject.phone.clone());
    for row in TABLES
        .iter()
        .filter(|t| t.name == "payments")
        .flat_map(|t| t.rows(world, &subject))
    {
        marks.extend(row.cells[3].shown(Dialect::Postgres));
    }
    marks.dedup();
    marks
}

/// Looks through every table of the database for the subject, and compares every row of everybody else with the one that was put there.
pub async fn database(
    world: &World,
    database: &mut Database,
    gone: bool,
    report: &mut Report,
) -> Result<(), Error> {
    for table in &TABLES {
        let rows = compare(world, table, database, report).await?;
        report.rows.insert(table.name, rows);
    }
    if gone {
        for table in all_tables(database).await? {
            for mark in marks(world) {
                let found = count_rows_with(database, &table, &mark).await?;
                if found > 0 {
                    report.wrong(format!("table {table}: {found} rows hold a value of the subject"));
                }
            }
        }
    }
    Ok(())
}

/// Compares a table with the world row by row; the subject's own rows are passed over. Returns how many were equal.
async fn compare(
    world: &World,
    table: &Table,
    database: &mut Database,
    report: &mut Report,
) -> Result<u64, Error> {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|c| format!("cast({c} as text)"))
        .collect();
    let query = format!(
        "select {} from {} as t order by t.id",
        columns.join(", "),
        table.name
    );
    let expected = (0..world.people).flat_map(|index| table.rows(world, &world.person(index)));
    let mut comparison = Comparison {
        table,
        dialect: database.dialect(),
        subject: world.subject_index(),
        expected,
        same: 0,
    };
    match database {
        Database::Postgres(connection) => {
            let mut rows = sqlx::query(AssertSqlSafe(query)).fetch(connection);
            while let Some(row) = rows.try_next().await? {
                comparison.row(
                    &(0..row.len())
                        .map(|n| row.try_get(n))
                        .collect::<Result<Vec<_>, _>>()?,
                    report,
                );
            }
        }
        Database::Sqlite(connection) => {
            let mut rows = sqlx::query(AssertSqlSafe(query)).fetch(connection);
            while let Some(row) = rows.try_next().await? {
                comparison.row(
                    &(0..row.len())
                        .map(|n| row.try_get(n))
                        .collect::<Result<Vec<_>, _>>()?,
                    report,
                );
            }
        }
    }
    let (subject, same) = (comparison.subject, comparison.same);
    let missing = comparison
        .expected
        .filter(|row| row.owner != Some(subject))
        .count();
    if missing > 0 {
        report.wrong(format!(
            "table {}: {missing} rows of others are missing at the end",
            table.name
        ));
    }
    Ok(same)
}

struct Comparison<'a, I> {
    table: &'a Table,
    dialect: Dialect,
    subject: u32,
    expected: I,
    same: u64,
}

impl<I: Iterator<Item = Row>> Comparison<'_, I> {
    /// Takes the next row of the database, both sides being ordered by id.
    fn row(&mut self, actual: &[Option<String>], report: &mut Report) {
        let name = self.table.name;
        for row in self.expected.by_ref() {
            let wanted: Vec<_> = row.cells.iter().map(|cell| cell.shown(self.dialect)).collect();
            let subjects = row.owner == Some(self.subject);
            if wanted == actual {
                self.same += u64::from(!subjects);
                return;
            }
            let what = differing(self.table, &wanted, actual);
            let was_lifted = row.owner.is_some_and(|owner| report.lifted.contains(&owner));
            if !(subjects || was_lifted && what == CHANGED) {
                report.wrong(format!(
                    "table {name}: row {:?} of somebody else is not as it was ({what})",
                    wanted[0]
                ));
            }
            if wanted[0] == actual[0] {
                return;
            }
        }
        report.wrong(format!(
            "table {name}: a row nobody put there, id {:?}",
            actual[0]
        ));
    }
}

fn differing(table: &Table, wanted: &[Option<String>], actual: &[Option<String>]) -> String {
    if wanted[0] != actual[0] {
        return "missing".to_owned();
    }
    let columns = table.columns.iter().zip(wanted.iter().zip(actual));
    columns
        .filter(|(_, (a, b))| a != b)
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}

async fn all_tables(database: &mut Database) -> Result<Vec<String>, Error> {
    let names: Vec<(String,)> = match database {
        Database::Postgres(connection) => {
            let all = "select format('%I.%I', table_schema, table_name) from information_schema.tables
                where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')";
            sqlx::query_as(all).fetch_all(connection).await?
        }
        Database::Sqlite(connection) => {
            let all = "select '\"' || name || '\"' from sqlite_master where type = 'table' and name not like 'sqlite_%'";
            sqlx::query_as(all).fetch_all(connection).await?
        }
    };
    Ok(names.into_iter().map(|(name,)| name).collect())
}

async fn count_rows_with(database: &mut Database, table: &str, mark: &str) -> Result<i64, Error> {
    match database {
        Database::Postgres(connection) => {
            let query = format!("select count(*) from {table} t where position($1 in lower(t::text)) > 0");
            Ok(sqlx::query_scalar(AssertSqlSafe(query))
                .bind(mark.to_lowercase())
                .fetch_one(connection)
                .await?)
        }
        Database::Sqlite(connection) => {
            let columns = format!(
                "select '\"' || name || '\"' from pragma_table_info('{}')",
                table.trim_matches('"')
            );
            let columns: Vec<(String,)> = sqlx::query_as(AssertSqlSafe(columns))
                .fetch_all(&mut *connection)
                .await?;
            let any: Vec<String> = columns
                .iter()
                .map(|(c,)| format!("instr(lower(cast({c} as text)), ?1) > 0"))
                .collect();
            let query = format!("select count(*) from {table} where {}", any.join(" or "));
            Ok(sqlx::query_scalar(AssertSqlSafe(query))
                .bind(mark.to_lowercase())
                .fetch_one(connection)
                .await?)
        }
    }
}

/// Looks whether what the subject bought and paid is still in the books: the rows of orders and payments, with their amounts.
pub async fn amounts(world: &World, database: &mut Database, report: &mut Report) -> Result<(), Error> {
    let dialect = database.dialect();
    for (name, column) in [("orders", "line_total_cents"), ("payments", "amount_cents")] {
        let Some(table) = TABLES.iter().find(|table| table.name == name) else {
            continue;
        };
        let place = table
            .columns
            .iter()
            .position(|c| *c == column)
            .unwrap_or_default();
        for row in table.rows(world, &world.subject()) {
            let id = row.cells[0].shown(dialect).unwrap_or_default();
            let query = format!("select cast({column} as text) from {name} where id = {id}");
            let found: Option<String> = match database {
                Database::Postgres(c) => sqlx::query_scalar(AssertSqlSafe(query)).fetch_optional(c).await?,
                Database::Sqlite(c) => sqlx::query_scalar(AssertSqlSafe(query)).fetch_optional(c).await?,
            };
            if found == row.cells[place].shown(dialect) {
                report.kept += 1;
            } else {
                report.wrong(format!(
                    "table {name}: the amount of row {id} of the subject was not kept"
                ));
            }
        }
    }
    Ok(())
}

/// Reads the log files, oldest first: no line may name the subject, everybody else's history must stand there byte for byte and in order, and every
/// request that was answered must have its line once.
pub fn logs(
    world: &World,
    files: &[PathBuf],
    answered: Option<&Path>,
    gone: bool,
    report: &mut Report,
) -> Result<(), Error> {
    let marks = marks(world);
    let subject = world.subject_index();
    let mut history = (0..world.log_lines)
        .map(|n| logs::line(world, n))
        .filter(|line| line.names != Some(subject))
        .peekable();
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    for path in files {
        let mut reader = open(path)?;
        let mut bytes = Vec::new();
        let mut number = 0_u64;
        while reader
            .read_until(b'\n', &mut bytes)
            .map_err(|e| Error::file(path, e))?
            > 0
        {
            number += 1;
            let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let personal = names(line, &marks);
            if gone && personal {
                report.wrong(format!("{} line {number} names the subject", path.display()));
            } else if history.next_if(|expected| expected.bytes == line).is_some() {
                report.lines += 1;
            } else if let Some(n) = request_number(line) {
                report.live_lines += 1;
                *seen.entry(n).or_default() += 1;
            } else if !personal {
                report.wrong(format!(
                    "{} line {number} is not the one that stood there",
                    path.display()
                ));
            }
            bytes.clear();
        }
    }
    let missing = history.count();
    if missing > 0 {
        report.wrong(format!("{missing} lines of others are missing from the history"));
    }
    for (n, times) in seen.iter().filter(|(_, times)| **times > 1) {
        report.wrong(format!("the line of request {n} stands there {times} times"));
    }
    if let Some(path) = answered {
        let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
        let answered: BTreeSet<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
        for n in answered.iter().filter(|n| !seen.contains_key(n)) {
            report.wrong(format!("the line of request {n}, which was answered, is lost"));
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, Error> {
    let file = std::fs::File::open(path).map_err(|e| Error::file(path, e))?;
    let plain: Box<dyn Read> = if path.extension().is_some_and(|e| e == "gz") {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    Ok(Box::new(BufReader::new(plain)))
}

/// Whether a line holds one of the marks, however often it was escaped.
fn names(line: &[u8], marks: &[String]) -> bool {
    let mut text = line.to_ascii_lowercase();
    for _ in 0..=DECODE_ROUNDS {
        if marks.iter().any(|mark| contains(&text, mark.as_bytes())) {
            return true;
        }
        text = percent_decode(&text).collect::<Vec<u8>>().to_ascii_lowercase();
    }
    false
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The number that the traffic gave the request.
fn request_number(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    let (before, _) = text.split_once(" HTTP/1.1\"")?;
    let (_, n) = before.rsplit_once(['?', '&'])?;
    n.strip_prefix("r=")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        World {
            log_lines: 2000,
            ..World::new(7, 100, 1_790_000_000).unwrap()
        }
    }

    fn audited(world: &World, files: &[PathBuf]) -> Report {
        let mut report = Report::default();
        logs(world, files, None, true, &mut report).unwrap();
        report
    }

    fn without_subject(world: &World, folder: &Path) -> PathBuf {
        let path = folder.join("access.log");
        let keep = (0..world.log_lines)
            .map(|n| logs::line(world, n))
            .filter(|l| l.names != Some(world.subject_index()));
        std::fs::write(
            &path,
            keep.flat_map(|mut l| {
                l.bytes.push(b'\n');
                l.bytes
            })
            .collect::<Vec<u8>>(),
        )
        .unwrap();
        path
    }

    #[test]
    fn an_untouched_history_names_the_subject() {
        let (world, folder) = (world(), tempfile::tempdir().unwrap());
        let report = audited(&world, &logs::write(&world, folder.path()).unwrap());
        assert!(!report.holds());
        assert!(
            report.findings.iter().all(|f| f.contains("names the subject")),
            "{:?}",
            report.findings
        );
    }

    #[test]
    fn a_history_without_the_subject_holds_and_a_lost_or_changed_line_is_noticed() {
        let (world, folder) = (world(), tempfile::tempdir().unwrap());
        let path = without_subject(&world, folder.path());
        assert!(audited(&world, std::slice::from_ref(&path)).holds());

        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
        std::fs::write(&path, &whole[first..]).unwrap();
        assert!(
            !audited(&world, std::slice::from_ref(&path)).holds(),
            "a lost line"
        );

        let mut changed = whole.clone();
        changed[first + 3] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        assert!(!audited(&world, &[path]).holds(), "a changed byte");
    }

    #[test]
    fn an_address_inside_an_escaped_address_is_found() {
        let marks = ["ada@x.example".to_owned()];
        assert!(names(
            b"GET /login?next=%2Faccount%3Femail%3DADA%2540x.example",
            &marks
        ));
        assert!(!names(
            b"GET /login?next=%2Faccount%3Femail%3Dida%2540x.example",
            &marks
        ));
    }
}
