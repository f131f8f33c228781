//! The connector: taking a database into service, and the contract's calls.

use async_trait::async_trait;
use lethe_kit::{
    Ask, Connector, DatasetManifest, Error as Failure, FeedPage, Finding, Located, Manifest, Observed, Page,
    Performed, Selector,
};
use lethe_terms::{DatasetName, Independence, IssuedKind, ShardName, Strength, SystemName, Verb};

use crate::catalog::{Catalog, Class, from_text};
use crate::config::{Config, Url};
use crate::db::{Begin, Pool, Use, arg};
use crate::error::{Error, Stage, failure};
use crate::key::{keys_argument, parse_handle};
use crate::model::{Key, TableVerb, Unit};
use crate::own::Own;
use crate::resolve::{self, Problems};
use crate::rules;
use crate::statement::Statements;
use crate::theirs::Strange;

/// Connections besides those of the calls: for checks and for asking again while all others work.
const SPARE_CONNECTIONS: usize = 2;

/// A database with its mapping, as the contract sees it.
pub struct SqlConnector {
    pub(crate) manifest: Manifest,
    pub(crate) units: Vec<Unit>,
    /// Connections that do the work.
    pub(crate) work: Pool,
    /// Connections that look again.
    pub(crate) watch: Pool,
    /// Lethe's own tables, where the owner allows them.
    pub(crate) own: Option<Own>,
    pub(crate) late_ms: u64,
    pub(crate) strange: Strange,
    phone_country: Option<String>,
}

impl std::fmt::Debug for SqlConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "SqlConnector({}, {} units)",
            self.manifest.system,
            self.units.len()
        )
    }
}

/// Connects, compares the mapping with the live catalogue and refuses one that does not fit, with everything that is wrong with it.
pub async fn connect(system: SystemName, config: Config) -> Result<SqlConnector, Error> {
    let url = url(config.url.as_ref(), config.url_file.as_deref(), "url")?.ok_or_else(|| Error::Config {
        what: "url".to_owned(),
        expected: "url or url_file".to_owned(),
    })?;
    let observe_url = url_or(&config, &url)?;
    check_settings(&config)?;
    let connections_max = config.concurrency_max + SPARE_CONNECTIONS;
    let work = Pool::connect(&url.0, Use::Work, connections_max, config.timeout_ms).await?;
    let watch = Pool::connect(&observe_url.0, Use::Observe, connections_max, config.timeout_ms).await?;
    let mut tx = work.begin(Begin::Read).await?;
    let catalog = Catalog::read(&mut tx).await?;
    tx.rollback().await?;
    let mut problems = Problems(Vec::new());
    let units = resolve::units(&config, &catalog, work.dialect(), &mut problems);
    rules::checks(&work, &catalog, &units, &mut problems).await?;
    if !problems.0.is_empty() {
        return Err(Error::Mapping(problems.0));
    }
    let own = if config.own_tables {
        Own::open(&work, config.remember_days).await?
    } else {
        None
    };
    let independence = independence(&work, &watch).await?;
    let manifest = manifest(system, &config, &catalog, &units, own.is_some(), independence)?;
    Ok(SqlConnector {
        manifest,
        units,
        work,
        watch,
        own,
        late_ms: config.late_ms,
        strange: Strange::default(),
        phone_country: config.phone_country,
    })
}

fn url(url: Option<&Url>, file: Option<&std::path::Path>, what: &str) -> Result<Option<Url>, Error> {
    match (url, file) {
        (Some(_), Some(_)) => Err(Error::Config {
            what: what.to_owned(),
            expected: format!("{what} or {what}_file, and not both"),
        }),
        (Some(url), None) => url.clone().checked(what).map(Some),
        (None, None) => Ok(None),
        (None, Some(file)) => match std::fs::read_to_string(file) {
            Ok(text) => Url(text.trim().to_owned())
                .checked(&format!("{what}_file"))
                .map(Some),
            Err(error) => {
                let expected = format!("a readable file with one URL: {}", error.kind());
                Err(Error::Config {
                    what: format!("{what}_file"),
                    expected,
                })
            }
        },
    }
}

fn url_or(config: &Config, work: &Url) -> Result<Url, Error> {
    let url = url(
        config.observe_url.as_ref(),
        config.observe_url_file.as_deref(),
        "observe_url",
    )?;
    Ok(url.unwrap_or_else(|| work.clone()))
}

fn check_settings(config: &Config) -> Result<(), Error> {
    let wrong = |what: &str, expected: &str| {
        Err(Error::Config {
            what: what.to_owned(),
            expected: expected.to_owned(),
        })
    };
    config.check_limits()?;
    if config
        .phone_country
        .as_ref()
        .is_some_and(|c| c.is_empty() || c.len() > 3 || !c.bytes().all(|b| b.is_ascii_digit()))
    {
        return wrong("phone_country", "a country calling code such as \"49\"");
    }
    Ok(())
}

/// Another credential is one that the server itself calls by another name.
async fn independence(work: &Pool, watch: &Pool) -> Result<Independence, Error> {
    let mut names = Vec::new();
    for pool in [work, watch] {
        if matches!(pool, Pool::Sqlite(..)) {
            return Ok(Independence::SeparateConnection);
        }
        let mut tx = pool.begin(Begin::Read).await?;
        names.push(tx.rows("SELECT session_user::text", &[]).await?);
        tx.rollback().await?;
    }
    Ok(if names[0] == names[1] {
        Independence::SeparateConnection
    } else {
        Independence::SeparateCredential
    })
}

fn manifest(
    system: SystemName,
    config: &Config,
    catalog: &Catalog,
    units: &[Unit],
    detects_repeats: bool,
    independence: Independence,
) -> Result<Manifest, Error> {
    let mut shards = Vec::new();
    let mut datasets = Vec::new();
    for (unit, settings) in units.iter().zip(&config.units) {
        let shard: Result<ShardName, _> = unit.name.as_str().parse();
        shards.push(shard.map_err(|e| Error::Config {
            what: "units.name".to_owned(),
            expected: e.expected.to_owned(),
        })?);
        let mut verbs = vec![Verb::Locate, Verb::Observe, Verb::Export, Verb::Erase];
        if unit.mark.is_some() {
            verbs.extend([Verb::Restrict, Verb::Lift]);
        }
        datasets.push(DatasetManifest {
            name: unit.name.clone(),
            unit: settings
                .unit
                .clone()
                .unwrap_or_else(|| format!("a row of {} with its children", settings.table)),
            verbs,
            categories: settings.categories.clone(),
            purpose: settings.purpose,
            basis: settings.basis,
            keeps: keeps(catalog, unit),
            after: settings.after.clone(),
            proves_identity: true,
            settle_ms: settings.settle_ms,
            lead_ms: settings.lead_ms,
        });
    }
    let mut locates_by: Vec<IssuedKind> = units
        .iter()
        .flat_map(|unit| {
            unit.tables
                .iter()
                .flat_map(|t| t.identifiers.iter().map(|(_, kind)| kind.clone()))
        })
        .filter(|kind| kind.kind().strength() != Strength::Shared)
        .collect();
    locates_by.sort();
    locates_by.dedup();
    Ok(Manifest {
        system,
        kind: "sql",
        version: env!("CARGO_PKG_VERSION"),
        datasets,
        shards,
        locates_by,
        detects_repeats,
        independence,
        concurrency_max: config.concurrency_max,
        pace_ms: config.pace_ms,
        timeout_ms: config.timeout_ms,
        backup_days: config.backup_days,
    })
}

/// Columns that an erasure leaves in rows that stay, keys and links left out.
fn keeps(catalog: &Catalog, unit: &Unit) -> Vec<String> {
    let mut keeps = Vec::new();
    for table in &unit.tables {
        let TableVerb::Columns(verbs) = &table.verb else {
            continue;
        };
        let live = &catalog.tables[table.id];
        let changed = |name: &str| verbs.iter().any(|(c, _)| c.name == name);
        let structural = |name: &str| {
            live.primary.iter().any(|p| p == name) || table.link.iter().any(|(own, _)| own.name == name)
        };
        let kept = live
            .columns
            .iter()
            .filter(|c| !changed(&c.name) && !structural(&c.name));
        keeps.extend(kept.map(|c| format!("{}.{}", table.name, c.name)));
    }
    keeps
}

impl SqlConnector {
    pub(crate) fn unit(&self, dataset: &DatasetName) -> Option<&Unit> {
        self.units.iter().find(|unit| unit.name == *dataset)
    }

    pub(crate) fn statements<'u>(&'u self, unit: &'u Unit) -> Statements<'u> {
        Statements {
            unit,
            dialect: self.work.dialect(),
            phone_country: self.phone_country.as_deref(),
        }
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.work.close().await;
        self.watch.close().await;
    }

    fn known_unit(&self, dataset: &DatasetName) -> Result<&Unit, Failure> {
        self.unit(dataset).ok_or_else(|| Failure::Permanent {
            code: "sql-unknown-dataset",
            reason: format!("the mapping names no unit {dataset}"),
        })
    }

    /// Keys of the selected records, each once, in a fixed order. A handle that no record can have selects nothing.
    pub(crate) async fn selected_keys(&self, unit: &Unit, selector: &Selector) -> Result<Vec<Key>, Failure> {
        let mut keys: Vec<Key> = selector
            .records
            .iter()
            .filter_map(|record| parse_handle(self.work.dialect(), unit, &record.handle))
            .collect();
        keys.sort();
        keys.dedup();
        let spelled_by_database = |class: Class| !matches!(class, Class::Int | Class::Uuid | Class::Text);
        if unit.key.iter().any(|column| spelled_by_database(column.class)) {
            let mut spelled = Vec::with_capacity(keys.len());
            for key in keys {
                if self.is_spelled_right(unit, &key).await? {
                    spelled.push(key);
                }
            }
            return Ok(spelled);
        }
        Ok(keys)
    }

    /// Asks the database whether the texts are values of the key's types, in their one spelling.
    async fn is_spelled_right(&self, unit: &Unit, key: &Key) -> Result<bool, Failure> {
        let dialect = self.work.dialect();
        let same = |(n, column): (usize, &crate::catalog::Column)| {
            let text = arg(dialect, n + 1);
            format!("CAST({} AS text) = {text}", from_text(dialect, &text, column))
        };
        let same: Vec<String> = unit.key.iter().enumerate().map(same).collect();
        let args: Vec<&str> = key.iter().map(String::as_str).collect();
        let mut tx = self
            .work
            .begin(Begin::Read)
            .await
            .map_err(|e| failure(&e, Stage::Before))?;
        match tx
            .rows(&format!("SELECT '1' WHERE {}", same.join(" AND ")), &args)
            .await
        {
            Ok(rows) => Ok(!rows.is_empty()),
            Err(sqlx::Error::Database(e))
                if e.code().is_some_and(|c| c.len() == 5 && c.starts_with("22")) =>
            {
                Ok(false)
            }
            Err(error) => Err(failure(&error, Stage::Before)),
        }
    }

    /// Runs every statement of a unit for no record at all, and takes it back: rights and names are really tried, nobody's data is touched.
    async fn try_unit(&self, unit: &Unit) -> Result<(), sqlx::Error> {
        let statements = self.statements(unit);
        let nothing = keys_argument(&[]);
        let mut tx = self.work.begin(Begin::Write).await?;
        tx.rows(&statements.lock(), &[&nothing]).await?;
        for cascade in &unit.cascades {
            tx.rows(&statements.taken_along(cascade), &[&nothing]).await?;
        }
        for &table in &unit.order {
            if let Some((sql, replacements)) = statements.erase(table) {
                let args: Vec<&str> = std::iter::once(nothing.as_str()).chain(replacements).collect();
                tx.run(&sql, &args).await?;
            }
        }
        for sql in [statements.restrict(), statements.lift()].into_iter().flatten() {
            tx.rows(&sql, &[&nothing]).await?;
        }
        for table in 0..unit.tables.len() {
            tx.rows(&statements.rows_of(table), &[&nothing]).await?;
        }
        tx.rollback().await?;
        let mut tx = self.watch.begin(Begin::Read).await?;
        for table in 0..unit.tables.len() {
            let (sql, replacements) = statements.seen_by_key(table);
            let args: Vec<&str> = std::iter::once(nothing.as_str()).chain(replacements).collect();
            tx.rows(&sql, &args).await?;
        }
        tx.rollback().await
    }
}

#[async_trait]
impl Connector for SqlConnector {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn check(&self) -> Result<Vec<Finding>, Failure> {
        let mut findings = Vec::new();
        for unit in &self.units {
            let what = format!("unit {}", unit.name);
            match self.try_unit(unit).await {
                Ok(()) => findings.push(Finding {
                    what,
                    ok: true,
                    detail: "every statement of the mapping is allowed".to_owned(),
                }),
                Err(error) => match failure(&error, Stage::Before) {
                    Failure::Permanent { code, reason } => {
                        findings.push(Finding {
                            what,
                            ok: false,
                            detail: format!("{reason} ({code})"),
                        });
                    }
                    other => return Err(other),
                },
            }
        }
        let (ok, detail) = match &self.own {
            Some(own) => {
                own.end_old(&self.work)
                    .await
                    .map_err(|e| failure(&e, Stage::Before))?;
                (
                    true,
                    "receipts are kept in the database: a repeated instruction is detected",
                )
            }
            None => (
                false,
                "not there: a repeated instruction is not detected, and a lost answer stays unknown; expected own_tables and the right to create them",
            ),
        };
        findings.push(Finding {
            what: "tables lethe_*".to_owned(),
            ok,
            detail: detail.to_owned(),
        });
        Ok(findings)
    }

    async fn feed(&self, shard: &ShardName, cursor: Option<&str>, limit: usize) -> Result<FeedPage, Failure> {
        let unit = self
            .units
            .iter()
            .find(|unit| unit.name.as_str() == shard.as_str())
            .ok_or_else(|| Failure::Permanent {
                code: "sql-unknown-dataset",
                reason: format!("there is no shard {shard}: expected one that the manifest names"),
            })?;
        self.feed_unit(unit, cursor, limit).await
    }

    async fn locate(&self, selector: &Selector, page: Page) -> Result<Located, Failure> {
        self.locate_by(selector, &page).await
    }

    async fn perform(&self, ask: &Ask) -> Result<Performed, Failure> {
        self.perform_ask(ask).await
    }

    async fn poll(&self, ask: &Ask, _ticket: &str) -> Result<Performed, Failure> {
        self.ask_again(ask).await
    }

    async fn observe(&self, dataset: &DatasetName, selector: &Selector) -> Result<Observed, Failure> {
        self.observe_unit(self.known_unit(dataset)?, selector).await
    }

    async fn export(
        &self,
        selector: &Selector,
        page: Page,
    ) -> Result<(Vec<serde_json::Value>, Page), Failure> {
        self.export_by(selector, &page).await
    }
}
