//! The world in real databases, and an auditor with teeth.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]

use std::path::Path;

use lethe_world::audit::{Report, amounts, database};
use lethe_world::seed::{Database, seed};
use lethe_world::{World, people::Person};
use sqlx::{AssertSqlSafe, Executor};

const PEOPLE: u32 = 300;

fn world() -> World {
    World::new(7, PEOPLE, 1_790_000_000).unwrap()
}

async fn run(db: &mut Database, statement: String) {
    match db {
        Database::Postgres(connection) => drop(connection.execute(AssertSqlSafe(statement)).await.unwrap()),
        Database::Sqlite(connection) => drop(connection.execute(AssertSqlSafe(statement)).await.unwrap()),
    }
}

async fn audited(world: &World, db: &mut Database, gone: bool) -> Report {
    let mut report = Report::default();
    database(world, db, gone, &mut report).await.unwrap();
    report
}

/// Erases by hand, keeping the amounts.
async fn erase(db: &mut Database, who: &Person) {
    let account = format!("(select id from accounts where user_id = '{}')", who.user_id);
    let orders = format!("(select id from orders where account_id = {account})");
    for statement in [
        format!(
            "update payments set payer_name = 'erased', iban = null, card_last4 = null where order_id in {orders}"
        ),
        format!(
            "update orders set account_id = null, buyer_name = 'erased', buyer_email = null where account_id = {account}"
        ),
        format!(
            "delete from tickets where account_id = {account} or lower(email) = '{}'",
            who.email
        ),
        format!("delete from addresses where account_id = {account}"),
        format!("delete from registrations where account_id = {account}"),
        format!("delete from accounts where user_id = '{}'", who.user_id),
    ] {
        run(db, statement).await;
    }
}

async fn an_auditor_with_teeth(db: &mut Database) {
    let world = world();
    let counts = seed(&world, db).await.unwrap();
    assert_eq!(counts[0], ("accounts", u64::from(PEOPLE)));

    let before = audited(&world, db, false).await;
    assert!(before.holds(), "{:?}", before.findings);
    assert_eq!(before.rows["accounts"], u64::from(PEOPLE) - 1);
    assert!(
        !audited(&world, db, true).await.holds(),
        "the subject is still there"
    );

    erase(db, &world.subject()).await;
    let after = audited(&world, db, true).await;
    assert!(after.holds(), "{:?}", after.findings);
    assert_eq!(after.rows, before.rows);
    let mut books = Report::default();
    amounts(&world, db, &mut books).await.unwrap();
    assert!(
        books.holds() && books.kept == 6,
        "three orders and their payments: {:?}",
        books.findings
    );
    run(
        db,
        "update payments set amount_cents = amount_cents + 1 where payer_name = 'erased'".into(),
    )
    .await;
    amounts(&world, db, &mut books).await.unwrap();
    assert_eq!(books.findings.len(), 3, "changed amounts: {:?}", books.findings);

    // A copy in a table that nobody told the auditor of.
    run(
        db,
        format!(
            "create table shadow as select '{}' as note",
            world.subject().email.to_uppercase()
        ),
    )
    .await;
    assert!(!audited(&world, db, true).await.holds(), "a copy elsewhere");
    run(db, "drop table shadow".into()).await;

    // Somebody else's row changed, even if the value is put back: its time of change tells.
    let namesake = world.namesake().user_id;
    run(
        db,
        format!("update accounts set phone = phone where user_id = '{namesake}'"),
    )
    .await;
    let touched = audited(&world, db, true).await;
    assert!(
        touched.findings[0].contains("updated_at"),
        "{:?}",
        touched.findings
    );
    run(db, format!("delete from registrations where account_id = (select id from accounts where user_id = '{namesake}')"))
        .await;
    assert!(
        audited(&world, db, true)
            .await
            .findings
            .iter()
            .any(|f| f.contains("registrations")),
        "a lost row"
    );
}

#[tokio::test]
async fn sqlite_holds_the_world_and_the_auditor_notices_every_change() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("shop.db").display());
    an_auditor_with_teeth(&mut Database::connect(&url).await.unwrap()).await;
    assert!(Path::new(&folder.path().join("shop.db")).exists());
}

#[tokio::test]
async fn postgres_holds_the_world_and_the_auditor_notices_every_change() {
    let Ok(server) = std::env::var("LETHE_TEST_POSTGRES") else {
        println!("SKIPPED: LETHE_TEST_POSTGRES is not set");
        return;
    };
    let name = format!("world_{}", std::process::id());
    let mut admin = Database::connect(&server).await.unwrap();
    run(&mut admin, format!("create database {name}")).await;
    let (base, _) = server.rsplit_once('/').unwrap();
    let mut db = Database::connect(&format!("{base}/{name}")).await.unwrap();
    an_auditor_with_teeth(&mut db).await;
    drop(db);
    run(&mut admin, format!("drop database {name} with (force)")).await;
}
