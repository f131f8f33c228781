//! Erasing people from a database: the connector's steps beside the same statements by hand, on copies of one database.

use std::path::Path;
use std::time::{Duration, Instant};

use lethe_kit::{Ask, Connector, Page, Performed, Selected, Selector};
use lethe_sql::SqlConnector;
use lethe_terms::{Identifier, IdentifierKind, InstructionId, Verb};
use lethe_world::World;
use lethe_world::people::Person;
use lethe_world::seed::{Database, seed};
use serde::Serialize;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use crate::{Failure, per_s};

/// End of the made-up past, in seconds since 1970; any would do.
const PAST_ENDS: i64 = 1_780_000_000;

/// The mapping of the reference configuration.
const CONFIG: &str = include_str!("../../../ops/config/lethe.toml");

/// Datasets in the order of a plan: children before what they point at.
const DATASETS: [&str; 3] = ["tickets", "orders", "accounts"];

/// What a person has, by hand, in one transaction: `?1` the account, `?2` the e-mail address.
const BY_HAND: [&str; 6] = [
    "delete from tickets where account_id = ?1 or lower(email) = lower(?2)",
    "update payments set payer_name = 'erased', iban = null, card_last4 = null where order_id in
        (select id from orders where account_id = ?1 or lower(buyer_email) = lower(?2))",
    "update orders set account_id = null, buyer_name = 'erased', buyer_email = null
        where account_id = ?1 or lower(buyer_email) = lower(?2)",
    "delete from registrations where account_id = ?1",
    "delete from addresses where account_id = ?1",
    "delete from accounts where id = ?1",
];

/// What is left of each kind, to be compared.
const LEFT: [&str; 6] = [
    "select count(*) from tickets",
    "select count(*) from orders where buyer_name = 'erased'",
    "select count(*) from payments where payer_name = 'erased'",
    "select count(*) from registrations",
    "select count(*) from addresses",
    "select count(*) from accounts",
];

/// What was measured.
#[derive(Serialize)]
pub(crate) struct Erasing {
    pub(crate) people: u32,
    pub(crate) erased: u32,
    /// People a second by the connector: three instructions each, every one with its receipt in a transaction of its own.
    pub(crate) per_s: f64,
    /// People a second by hand: one transaction each, no receipt.
    pub(crate) by_hand_per_s: f64,
    /// Speed as a share of by hand.
    pub(crate) of_by_hand: f64,
}

/// Erases the first people of a world twice: by the connector and by hand.
pub(crate) async fn measure(folder: &Path, people: u32, erased: u32) -> Result<Erasing, Failure> {
    if erased == 0 || erased > people {
        return Err("--erasures is at least 1 and at most --people".into());
    }
    let world = World::new(7, people, PAST_ENDS)?;
    let (ours, theirs) = (folder.join("connector.db"), folder.join("by-hand.db"));
    for path in [&ours, &theirs] {
        let mut database = Database::connect(&format!("sqlite:{}", path.display())).await?;
        seed(&world, &mut database).await?;
        if let Database::Sqlite(connection) = database {
            connection.close().await?;
        }
    }
    let by_connector = by_connector(&world, &ours, erased).await?;
    let by_hand = by_hand(&world, &theirs, erased).await?;
    let (left, expected) = (left(&ours).await?, left(&theirs).await?);
    if left != expected {
        return Err(format!("the two databases differ afterwards: {left:?} and {expected:?}").into());
    }
    let (rate, by_hand_per_s) = (per_s(erased, by_connector), per_s(erased, by_hand));
    Ok(Erasing {
        people,
        erased,
        per_s: rate,
        by_hand_per_s,
        of_by_hand: rate / by_hand_per_s,
    })
}

async fn by_connector(world: &World, path: &Path, erased: u32) -> Result<Duration, Failure> {
    let connector = lethe_sql::connect("shop".parse()?, config(path)?).await?;
    let mut took = Duration::ZERO;
    for index in 0..erased {
        let asks = asks(&connector, &world.person(index), index).await?;
        let began = Instant::now();
        for ask in &asks {
            match connector.perform(ask).await? {
                Performed::Done(_) => {}
                other => return Err(format!("expected a receipt, not {other:?}").into()),
            }
        }
        took += began.elapsed();
    }
    connector.close().await;
    Ok(took)
}

/// The instructions of a person, as a plan would have them: every record that was found, by dataset.
async fn asks(connector: &SqlConnector, person: &Person, number: u32) -> Result<Vec<Ask>, Failure> {
    let identifiers = vec![
        Identifier::new(IdentifierKind::Email, person.email.as_str()),
        Identifier::new(IdentifierKind::UserId, person.user_id.as_str()),
    ];
    let whole = Selector {
        records: Vec::new(),
        identifiers,
    };
    let found = connector.locate(&whole, Page::default()).await?;
    let mut asks = Vec::new();
    for (step, dataset) in (0_u32..).zip(DATASETS) {
        let mut selector = whole.clone();
        let records = found
            .observations
            .iter()
            .filter(|o| o.dataset.as_str() == dataset);
        selector.records = records
            .map(|o| Selected {
                handle: o.handle.clone(),
            })
            .collect();
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        id[4..8].copy_from_slice(&step.to_be_bytes());
        asks.push(Ask {
            id: InstructionId::from_bytes(id),
            generation: (u64::from(number), step),
            dataset: dataset.parse()?,
            verb: Verb::Erase,
            selector,
        });
    }
    Ok(asks)
}

async fn by_hand(world: &World, path: &Path, erased: u32) -> Result<Duration, Failure> {
    let mut connection = open(path).await?;
    let mut took = Duration::ZERO;
    for index in 0..erased {
        let person = world.person(index);
        let account: i64 = sqlx::query("select id from accounts where user_id = ?1")
            .bind(person.user_id)
            .fetch_one(&mut connection)
            .await?
            .try_get(0)?;
        let began = Instant::now();
        let mut transaction = connection.begin().await?;
        for statement in BY_HAND {
            let query = sqlx::query(statement).bind(account);
            let query = if statement.contains("?2") {
                query.bind(person.email.as_str())
            } else {
                query
            };
            query.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        took += began.elapsed();
    }
    connection.close().await?;
    Ok(took)
}

/// As safe as the connector's own connection: every commit is synced, and what goes is overwritten.
async fn open(path: &Path) -> Result<SqliteConnection, Failure> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Full)
        .pragma("secure_delete", "on");
    Ok(SqliteConnection::connect_with(&options).await?)
}

async fn left(path: &Path) -> Result<Vec<i64>, Failure> {
    let mut connection = open(path).await?;
    let mut left = Vec::new();
    for statement in LEFT {
        left.push(connection.fetch_one(AssertSqlSafe(statement)).await?.try_get(0)?);
    }
    connection.close().await?;
    Ok(left)
}

fn config(path: &Path) -> Result<lethe_sql::Config, Failure> {
    let reference: toml::Value = toml::from_str(CONFIG)?;
    let shop = reference
        .get("systems")
        .and_then(toml::Value::as_array)
        .and_then(|systems| {
            systems
                .iter()
                .find(|system| system.get("kind").and_then(toml::Value::as_str) == Some("sql"))
        });
    let mut config = toml::Table::new();
    config.insert("kind".to_owned(), "sql".into());
    config.insert("url".to_owned(), format!("sqlite:{}", path.display()).into());
    config.insert("phone_country".to_owned(), "49".into());
    let units = shop
        .and_then(|shop| shop.get("units"))
        .ok_or("the reference configuration has no units")?;
    config.insert("units".to_owned(), units.clone());
    Ok(config.try_into()?)
}
