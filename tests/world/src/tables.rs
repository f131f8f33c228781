//! The rows of the registration database, table by table, in an order in which parents come before children.

use fake::Fake;
use fake::faker::lorem::en::Sentence;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::World;
use crate::people::Person;

/// Rows per person leave room in the ids, so that an id tells its person: id = person * `ID_STRIDE` + n.
const ID_STRIDE: i64 = 8;
/// Months have whole days in this world.
const DAY_S: i64 = 86_400;
/// One in so many tickets is by a guest who never registered.
const GUEST_EVERY: u32 = 9;
/// Products and their price in cents.
const PRODUCTS: [(&str, i64); 6] = [
    ("Inventory Basic, 1 year", 58_800),
    ("Inventory Team, 1 year", 178_800),
    ("Inventory Enterprise, 1 year", 598_800),
    ("Label printer LP-2", 32_900),
    ("QR labels, roll of 1000", 8_900),
    ("On-site training, 1 day", 120_000),
];

/// A value in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// No value.
    Null,
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A moment, in seconds since 1970.
    Time(i64),
}

/// The database that a cell is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

impl Cell {
    /// As the database shows it when it is asked for text, in UTC.
    pub fn shown(&self, dialect: Dialect) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text.clone()),
            Self::Int(number) => Some(number.to_string()),
            Self::Time(seconds) => {
                let time = jiff::Timestamp::from_second(*seconds).unwrap_or_default();
                let format = match dialect {
                    Dialect::Postgres => "%Y-%m-%d %H:%M:%S+00",
                    Dialect::Sqlite => "%Y-%m-%d %H:%M:%S.000",
                };
                Some(time.strftime(format).to_string())
            }
        }
    }
}

/// A row with whom it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Index of the person; `None` for a guest who has no account.
    pub owner: Option<u32>,
    /// Values in the order of the table's columns.
    pub cells: Vec<Cell>,
}

/// A table of the database.
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns in order.
    pub columns: &'static [&'static str],
    rows: fn(&World, &Person) -> Vec<Row>,
}

impl Table {
    /// The rows that come with one person, by ascending id.
    pub fn rows(&self, world: &World, person: &Person) -> Vec<Row> {
        (self.rows)(world, person)
    }
}

/// All tables, parents first.
pub const TABLES: [Table; 6] = [
    Table {
        name: "accounts",
        columns: &[
            "id",
            "user_id",
            "email",
            "full_name",
            "phone",
            "created_at",
            "updated_at",
            "processing_restricted_at",
        ],
        rows: accounts,
    },
    Table {
        name: "registrations",
        columns: &["id", "account_id", "ip", "registered_at", "updated_at"],
        rows: registrations,
    },
    Table {
        name: "addresses",
        columns: &[
            "id",
            "account_id",
            "kind",
            "company",
            "street",
            "postcode",
            "city",
            "updated_at",
        ],
        rows: addresses,
    },
    Table {
        name: "orders",
        columns: &[
            "id",
            "number",
            "account_id",
            "buyer_name",
            "buyer_email",
            "product",
            "quantity",
            "unit_cents",
            "line_total_cents",
            "ordered_at",
            "updated_at",
        ],
        rows: orders,
    },
    Table {
        name: "payments",
        columns: &[
            "id",
            "order_id",
            "payer_name",
            "iban",
            "card_last4",
            "amount_cents",
            "paid_at",
            "updated_at",
        ],
        rows: payments,
    },
    Table {
        name: "tickets",
        columns: &[
            "id",
            "account_id",
            "email",
            "subject_line",
            "body",
            "opened_at",
            "updated_at",
            "processing_restricted_at",
        ],
        rows: tickets,
    },
];

fn text(value: impl Into<String>) -> Cell {
    Cell::Text(value.into())
}

fn optional(value: Option<String>) -> Cell {
    value.map_or(Cell::Null, Cell::Text)
}

const fn account_id(person: &Person) -> i64 {
    person.index as i64 + 1
}

const fn row_id(person: &Person, n: i64) -> i64 {
    (person.index as i64 + 1) * ID_STRIDE + n
}

fn row(person: &Person, cells: Vec<Cell>) -> Row {
    Row {
        owner: Some(person.index),
        cells,
    }
}

fn accounts(_: &World, person: &Person) -> Vec<Row> {
    vec![row(
        person,
        vec![
            Cell::Int(account_id(person)),
            text(&person.user_id),
            text(&person.email),
            text(&person.full_name),
            optional(person.phone.clone()),
            Cell::Time(person.joined),
            Cell::Time(person.joined),
            Cell::Null,
        ],
    )]
}

fn registrations(_: &World, person: &Person) -> Vec<Row> {
    vec![row(
        person,
        vec![
            Cell::Int(row_id(person, 0)),
            Cell::Int(account_id(person)),
            text(&person.ip),
            Cell::Time(person.joined),
            Cell::Time(person.joined),
        ],
    )]
}

/// The cast has one of everything, so that no test depends on luck.
fn is_cast(world: &World, person: &Person) -> bool {
    [
        world.subject_index(),
        world.namesake_index(),
        world.colleague_index(),
    ]
    .contains(&person.index)
}

fn addresses(world: &World, person: &Person) -> Vec<Row> {
    let mut rng = world.rng(2, u64::from(person.index));
    let kinds: &[&str] = if is_cast(world, person) || rng.random_bool(0.3) {
        &["billing", "delivery"]
    } else {
        &["billing"]
    };
    let address = |(n, kind): (i64, &&str)| {
        row(
            person,
            vec![
                Cell::Int(row_id(person, n)),
                Cell::Int(account_id(person)),
                text(*kind),
                optional(person.company.clone()),
                text(&person.street),
                text(&person.postcode),
                text(&person.city),
                Cell::Time(person.joined),
            ],
        )
    };
    (0..).zip(kinds).map(address).collect()
}

struct Order {
    n: i64,
    product: &'static str,
    quantity: i64,
    unit_cents: i64,
    at: i64,
}

fn bought(world: &World, person: &Person) -> Vec<Order> {
    let mut rng = world.rng(3, u64::from(person.index));
    let count = if is_cast(world, person) {
        3
    } else {
        rng.random_range(0..4)
    };
    let order = |n| {
        let (product, unit_cents) = PRODUCTS[rng.random_range(0..PRODUCTS.len())];
        let at = person.joined + rng.random_range(0..(world.ends - person.joined).max(1));
        Order {
            n,
            product,
            quantity: rng.random_range(1..6),
            unit_cents,
            at,
        }
    };
    (0..count).map(order).collect()
}

fn orders(world: &World, person: &Person) -> Vec<Row> {
    let order = |order: Order| {
        let id = row_id(person, order.n);
        row(
            person,
            vec![
                Cell::Int(id),
                text(format!("R-{:07}", id)),
                Cell::Int(account_id(person)),
                text(&person.full_name),
                text(&person.email),
                text(order.product),
                Cell::Int(order.quantity),
                Cell::Int(order.unit_cents),
                Cell::Int(order.unit_cents * order.quantity),
                Cell::Time(order.at),
                Cell::Time(order.at),
            ],
        )
    };
    bought(world, person).into_iter().map(order).collect()
}

fn payments(world: &World, person: &Person) -> Vec<Row> {
    let mut rng = world.rng(4, u64::from(person.index));
    let account = iban(&mut rng);
    let card = format!("{:04}", rng.random_range(0..10_000));
    let payment = |order: Order| {
        let by_card = order.n % 2 == 1;
        row(
            person,
            vec![
                Cell::Int(row_id(person, order.n)),
                Cell::Int(row_id(person, order.n)),
                text(&person.full_name),
                if by_card { Cell::Null } else { text(&account) },
                if by_card { text(&card) } else { Cell::Null },
                Cell::Int(order.unit_cents * order.quantity),
                Cell::Time(order.at + DAY_S),
                Cell::Time(order.at + DAY_S),
            ],
        )
    };
    bought(world, person).into_iter().map(payment).collect()
}

/// A German account number with right check digits (ISO 7064, mod 97-10) and a bank code that no bank has.
fn iban(rng: &mut StdRng) -> String {
    let bban = format!("99999999{:010}", rng.random_range(0..10_000_000_000_u64));
    // D and E count as 13 and 14, and the check digits as 00, behind the rest.
    let rest = format!("{bban}131400")
        .bytes()
        .fold(0_u64, |rest, digit| (rest * 10 + u64::from(digit - b'0')) % 97);
    format!("DE{:02}{bban}", 98 - rest)
}

/// People write their own address as they please.
fn as_typed(email: &str) -> String {
    let mut up = true;
    let typed = |c: char| {
        let out = if up { c.to_ascii_uppercase() } else { c };
        up = matches!(c, '.' | '@' | '-');
        out
    };
    let (local, domain) = email.rsplit_once('@').unwrap_or((email, ""));
    format!("{}@{domain}", local.chars().map(typed).collect::<String>())
}

fn tickets(world: &World, person: &Person) -> Vec<Row> {
    let mut rng = world.rng(5, u64::from(person.index));
    let count = if is_cast(world, person) {
        3
    } else {
        rng.random_range(0..3)
    };
    let mut rows = Vec::with_capacity(count as usize + 1);
    for n in 0..count {
        // The second is written without logging in, with the address in the person's own spelling.
        let as_guest = n == 1;
        let opened = person.joined + rng.random_range(0..(world.ends - person.joined).max(1));
        let line: String = Sentence(3..6).fake_with_rng(&mut rng);
        let body: String = Sentence(8..20).fake_with_rng(&mut rng);
        rows.push(row(
            person,
            vec![
                Cell::Int(row_id(person, n)),
                if as_guest {
                    Cell::Null
                } else {
                    Cell::Int(account_id(person))
                },
                text(if as_guest {
                    as_typed(&person.email)
                } else {
                    person.email.clone()
                }),
                text(line.trim_end_matches('.')),
                text(format!(
                    "Hello,\n\n{body}\n\nRegards, {} <{}>",
                    person.full_name, person.email
                )),
                Cell::Time(opened),
                Cell::Time(opened),
                Cell::Null,
            ],
        ));
    }
    if person.index.is_multiple_of(GUEST_EVERY) {
        rows.push(guest(world, person, &mut rng));
    }
    rows
}

fn guest(world: &World, after: &Person, rng: &mut StdRng) -> Row {
    let opened = world.ends - rng.random_range(DAY_S..400 * DAY_S);
    let body: String = Sentence(8..20).fake_with_rng(rng);
    Row {
        owner: None,
        cells: vec![
            Cell::Int(row_id(after, ID_STRIDE - 1)),
            Cell::Null,
            text(format!("guest-{}@trial.example", after.index)),
            text("Question before buying"),
            text(body),
            Cell::Time(opened),
            Cell::Time(opened),
            Cell::Null,
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_within_a_table_so_that_an_ordered_query_can_be_compared() {
        let world = World::new(7, 200, 1_790_000_000).unwrap();
        for table in &TABLES {
            let rows = (0..world.people).flat_map(|i| table.rows(&world, &world.person(i)));
            let ids: Vec<i64> = rows
                .map(|row| match row.cells[0] {
                    Cell::Int(id) => id,
                    _ => panic!("no id"),
                })
                .collect();
            assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{}", table.name);
            assert!(!ids.is_empty());
        }
    }

    #[test]
    fn every_row_has_a_cell_for_each_column() {
        let world = World::new(7, 50, 1_790_000_000).unwrap();
        for (table, person) in TABLES
            .iter()
            .flat_map(|t| (0..50).map(move |i| (t, world.person(i))))
        {
            for row in table.rows(&world, &person) {
                assert_eq!(row.cells.len(), table.columns.len(), "{}", table.name);
            }
        }
    }

    #[test]
    fn the_subject_wrote_once_as_a_guest_in_a_spelling_of_their_own() {
        let world = World::new(7, 200, 1_790_000_000).unwrap();
        let subject = world.subject();
        let rows = TABLES[5].rows(&world, &subject);
        let as_guest = rows.iter().find(|r| r.cells[1] == Cell::Null).unwrap();
        let Cell::Text(typed) = &as_guest.cells[2] else {
            panic!("no e-mail")
        };
        assert_ne!(*typed, subject.email);
        assert_eq!(typed.to_lowercase(), subject.email);
    }

    #[test]
    fn the_check_digits_of_a_known_account_number_come_out_right() {
        let world = World::new(7, 50, 1_790_000_000).unwrap();
        let number = iban(&mut world.rng(4, 1));
        let moved = format!("{}1314{}", &number[4..], &number[2..4]);
        assert_eq!(
            moved
                .bytes()
                .fold(0_u64, |rest, digit| (rest * 10 + u64::from(digit - b'0')) % 97),
            1
        );
    }
}
