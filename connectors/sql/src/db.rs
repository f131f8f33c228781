//! Two databases behind one face: every value travels as text, bound and cast by the statement.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Postgres, Row as _, Sqlite, Transaction};

/// Waiting longer for a free connection means that something else is wrong.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// A lock of the company's own work is waited for this long; then the instruction comes again later.
const LOCK_TIMEOUT_MS: u64 = 5_000;
/// A transaction of ours that the network lost must not hold its locks for ever.
const IDLE_TIMEOUT_MS: u64 = 60_000;

/// One row, each column as text.
pub(crate) type Row = Vec<Option<String>>;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    Sqlite,
}

/// What connections of a pool are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Work,
    Observe,
}

#[derive(Debug, Clone)]
pub(crate) enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool, Option<File>),
}

/// The file that was opened: a connection goes on reading it after another one has taken its place, by a restored backup or a deployment.
#[derive(Debug, Clone)]
pub(crate) struct File {
    path: PathBuf,
    /// Device and number of its inode.
    identity: (u64, u64),
}

impl File {
    /// `None` where the database is no file.
    fn at(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            path: path.to_owned(),
            identity: (found.dev(), found.ino()),
        })
    }

    fn is_there(&self) -> bool {
        Self::at(&self.path).is_some_and(|now| now.identity == self.identity)
    }
}

/// Another file has taken the place of the one that was opened, or it is gone.
#[derive(Debug, thiserror::Error)]
#[error("the file was replaced")]
pub(crate) struct FileReplaced;

/// A transaction; dropped without commit it is rolled back.
pub(crate) enum Tx {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>),
}

/// How a transaction begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    Read,
    Write,
}

impl Pool {
    pub(crate) async fn connect(
        url: &str,
        usage: Use,
        connections_max: usize,
        timeout_ms: u64,
    ) -> Result<Self, sqlx::Error> {
        let connections_max = u32::try_from(connections_max).unwrap_or(u32::MAX);
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let options: PgConnectOptions = url.parse()?;
            let options = options.application_name("lethe").options([
                ("timezone", "UTC".to_owned()),
                ("datestyle", "ISO, YMD".to_owned()),
                ("bytea_output", "hex".to_owned()),
                // A receipt must not say what a crash of the server takes back.
                ("synchronous_commit", "on".to_owned()),
                ("lock_timeout", LOCK_TIMEOUT_MS.to_string()),
                ("statement_timeout", timeout_ms.to_string()),
                ("idle_in_transaction_session_timeout", IDLE_TIMEOUT_MS.to_string()),
            ]);
            let pool = PgPoolOptions::new()
                .max_connections(connections_max)
                .acquire_timeout(ACQUIRE_TIMEOUT);
            return Ok(Self::Postgres(pool.connect_with(options).await?));
        }
        let options: SqliteConnectOptions = url.parse()?;
        let options = options
            .create_if_missing(false)
            .foreign_keys(true)
            .busy_timeout(Duration::from_millis(LOCK_TIMEOUT_MS))
            .synchronous(SqliteSynchronous::Full)
            .pragma("secure_delete", "on")
            .pragma("query_only", if usage == Use::Observe { "on" } else { "off" });
        let pool = SqlitePoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_TIMEOUT);
        // Looked at before it is opened: what takes its place from now on is noticed.
        let file = File::at(options.get_filename());
        Ok(Self::Sqlite(pool.connect_with(options).await?, file))
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Sqlite(..) => Dialect::Sqlite,
        }
    }

    /// A read sees one state of the database throughout, which is the one at the path; a write in SQLite takes its lock at once, so that it cannot fail half-way for want of it.
    pub(crate) async fn begin(&self, begin: Begin) -> Result<Tx, sqlx::Error> {
        if let Self::Sqlite(_, Some(file)) = self
            && !file.is_there()
        {
            return Err(sqlx::Error::Configuration(Box::new(FileReplaced)));
        }
        match (self, begin) {
            (Self::Postgres(pool), Begin::Write) => Ok(Tx::Postgres(pool.begin().await?)),
            (Self::Postgres(pool), Begin::Read) => Ok(Tx::Postgres(
                pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    .await?,
            )),
            (Self::Sqlite(pool, _), Begin::Write) => {
                Ok(Tx::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?))
            }
            (Self::Sqlite(pool, _), Begin::Read) => Ok(Tx::Sqlite(pool.begin().await?)),
        }
    }

    /// Number of the file that was opened, where it is one: another file has another.
    pub(crate) fn file_number(&self) -> Option<u64> {
        match self {
            Self::Sqlite(_, Some(file)) => Some(file.identity.1),
            Self::Sqlite(_, None) | Self::Postgres(_) => None,
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite(pool, _) => pool.close().await,
        }
    }
}

macro_rules! query {
    ($db:ty, $sql:expr, $args:expr) => {{
        let mut query = sqlx::query::<$db>(AssertSqlSafe($sql.to_owned()));
        for arg in $args {
            query = query.bind((*arg).to_owned());
        }
        query
    }};
}

impl Tx {
    /// Runs a statement; returns how many rows it changed.
    pub(crate) async fn run(&mut self, sql: &str, args: &[&str]) -> Result<u64, sqlx::Error> {
        match self {
            Self::Postgres(tx) => Ok(query!(Postgres, sql, args)
                .execute(&mut **tx)
                .await?
                .rows_affected()),
            Self::Sqlite(tx) => Ok(query!(Sqlite, sql, args)
                .execute(&mut **tx)
                .await?
                .rows_affected()),
        }
    }

    /// Hands each row to `visit` as it comes.
    pub(crate) async fn each(
        &mut self,
        sql: &str,
        args: &[&str],
        visit: &mut (dyn FnMut(Row) + Send),
    ) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(tx) => {
                let mut rows = query!(Postgres, sql, args).fetch(&mut **tx);
                while let Some(row) = rows.try_next().await? {
                    visit((0..row.len()).map(|n| row.try_get(n)).collect::<Result<_, _>>()?);
                }
            }
            Self::Sqlite(tx) => {
                let mut rows = query!(Sqlite, sql, args).fetch(&mut **tx);
                while let Some(row) = rows.try_next().await? {
                    let text = |n| {
                        let bytes: Option<Vec<u8>> = row.try_get_unchecked(n)?;
                        Ok::<_, sqlx::Error>(bytes.map(|bytes| shown(&bytes)))
                    };
                    visit((0..row.len()).map(text).collect::<Result<_, _>>()?);
                }
            }
        }
        Ok(())
    }

    /// All rows of a small answer.
    pub(crate) async fn rows(&mut self, sql: &str, args: &[&str]) -> Result<Vec<Row>, sqlx::Error> {
        let mut rows = Vec::new();
        self.each(sql, args, &mut |row| rows.push(row)).await?;
        Ok(rows)
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(tx) => tx.commit().await,
            Self::Sqlite(tx) => tx.commit().await,
        }
    }

    pub(crate) async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(tx) => tx.rollback().await,
            Self::Sqlite(tx) => tx.rollback().await,
        }
    }
}

/// SQLite keeps any bytes as text, and one bad row must not stop the others: what is no UTF-8 is shown as `\\xfc`, which no address holds.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// A name, quoted: mixed case, spaces and quotes included.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The n-th argument, from 1, as text.
pub(crate) fn arg(dialect: Dialect, n: usize) -> String {
    match dialect {
        Dialect::Postgres => format!("${n}::text"),
        Dialect::Sqlite => format!("?{n}"),
    }
}
