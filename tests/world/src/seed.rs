//! Fills a database with the world: by COPY into PostgreSQL, by large transactions into SQLite; a chunk at a time, whatever the number of people.

use std::fmt::Write as _;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::tables::{Dialect, Row, TABLES, Table};
use crate::{Error, World};

/// Bytes after which a COPY buffer is sent: large enough to be fast, small enough not to matter.
const COPY_BYTES_MAX: usize = 256 * 1024;
/// People per transaction in SQLite.
const PEOPLE_PER_TRANSACTION: u32 = 1000;

/// A connection to either database.
pub enum Database {
    /// PostgreSQL.
    Postgres(PgConnection),
    /// SQLite.
    Sqlite(SqliteConnection),
}

impl Database {
    /// Connects to `postgres://…` or `sqlite:…`; a missing SQLite file is created.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let mut connection = PgConnection::connect(url).await?;
            connection.execute("set time zone 'UTC'").await?;
            return Ok(Self::Postgres(connection));
        }
        if url.starts_with("sqlite:") {
            let options: SqliteConnectOptions = url.parse()?;
            return Ok(Self::Sqlite(
                SqliteConnection::connect_with(&options.create_if_missing(true)).await?,
            ));
        }
        Err(Error::Usage(format!(
            "a database is postgres://… or sqlite:…, not {url:?}"
        )))
    }

    /// How it writes values.
    pub const fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }
}

/// Creates the tables and fills them. Returns the number of rows by table.
pub async fn seed(world: &World, database: &mut Database) -> Result<Vec<(&'static str, u64)>, Error> {
    match database {
        Database::Postgres(connection) => {
            connection.execute(include_str!("../schema/postgres.sql")).await?;
            let mut counts = Vec::with_capacity(TABLES.len());
            for table in &TABLES {
                counts.push((table.name, copy(world, table, connection).await?));
            }
            connection.execute("analyze").await?;
            Ok(counts)
        }
        Database::Sqlite(connection) => {
            connection.execute("pragma journal_mode = wal").await?;
            connection.execute("pragma foreign_keys = on").await?;
            connection.execute(include_str!("../schema/sqlite.sql")).await?;
            let mut counts = Vec::with_capacity(TABLES.len());
            for table in &TABLES {
                counts.push((table.name, insert(world, table, connection).await?));
            }
            Ok(counts)
        }
    }
}

async fn copy(world: &World, table: &Table, connection: &mut PgConnection) -> Result<u64, Error> {
    let statement = format!("copy {} ({}) from stdin", table.name, table.columns.join(", "));
    let mut sink = connection.copy_in_raw(&statement).await?;
    let mut buffer = String::with_capacity(COPY_BYTES_MAX * 2);
    for index in 0..world.people {
        for row in table.rows(world, &world.person(index)) {
            copy_line(&row, &mut buffer);
        }
        if buffer.len() >= COPY_BYTES_MAX {
            sink.send(buffer.as_bytes()).await?;
            buffer.clear();
        }
    }
    sink.send(buffer.as_bytes()).await?;
    let rows = sink.finish().await?;
    // Rows that the company adds later get ids behind the made-up ones.
    let sequence = format!(
        "select setval(pg_get_serial_sequence('{0}', 'id'), (select max(id) from {0}))",
        table.name
    );
    connection.execute(AssertSqlSafe(sequence)).await?;
    Ok(rows)
}

/// A row in COPY's text format.
fn copy_line(row: &Row, out: &mut String) {
    for (n, cell) in row.cells.iter().enumerate() {
        if n > 0 {
            out.push('\t');
        }
        match cell.shown(Dialect::Postgres) {
            None => out.push_str("\\N"),
            Some(text) => {
                for c in text.chars() {
                    match c {
                        '\\' => out.push_str("\\\\"),
                        '\n' => out.push_str("\\n"),
                        '\r' => out.push_str("\\r"),
                        '\t' => out.push_str("\\t"),
                        c => out.push(c),
                    }
                }
            }
        }
    }
    out.push('\n');
}

async fn insert(world: &World, table: &Table, connection: &mut SqliteConnection) -> Result<u64, Error> {
    let mut places = String::new();
    for n in 0..table.columns.len() {
        let _ = write!(places, "{}?", if n > 0 { ", " } else { "" });
    }
    let statement = format!(
        "insert into {} ({}) values ({places})",
        table.name,
        table.columns.join(", ")
    );
    let mut rows = 0;
    let mut from = 0;
    while from < world.people {
        let to = (from + PEOPLE_PER_TRANSACTION).min(world.people);
        let mut transaction = connection.begin().await?;
        for row in (from..to).flat_map(|index| table.rows(world, &world.person(index))) {
            let mut query = sqlx::query(AssertSqlSafe(statement.clone()));
            for cell in &row.cells {
                query = query.bind(cell.shown(Dialect::Sqlite));
            }
            query.execute(&mut *transaction).await?;
            rows += 1;
        }
        transaction.commit().await?;
        from = to;
    }
    Ok(rows)
}
