create table accounts (
    id integer primary key,
    user_id text not null unique,
    email text not null,
    full_name text not null,
    phone text,
    created_at text not null default (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at text not null default (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    processing_restricted_at text
);
create table registrations (
    id integer primary key,
    account_id integer not null references accounts (id),
    ip text not null,
    registered_at text not null,
    updated_at text not null default (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);
create table addresses (
    id integer primary key,
    account_id integer not null references accounts (id),
    kind text not null check (kind in ('billing', 'delivery')),
    company text,
    street text not null,
    postcode text not null,
    city text not null,
    updated_at text not null default (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);
create table orders (
    id integer primary key,
    number text not null unique,
    account_id integer references accounts (id),
    buyer_name text not null,
    buyer_email text,
    product text not null,
    quantity integer not null,
    unit_cents integer not null,
    line_total_cents integer not null,
    ordered_at text not null,
    updated_at text not null default (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);
-- Orders that are set aside: whoever works on orders looks here first.
create table orders_restricted (
    id integer primary key references orders (id)
);
create table payments (
    id integer primary key,
    order_id integer not null references orders (id),
    payer_name text not null,
    iban text,
    card_last4 text,
    amount_cents integer not null,
    paid_at text not null,
    updated_at text not null default (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);
create table tickets (
    id integer primary key,
    account_id integer references accounts (id),
    email text not null,
    subject_line text not null,
    body text not null,
    opened_at text not null,
    updated_at text not null default (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    processing_restricted_at text
);

create index accounts_email on accounts (lower(email));
create index accounts_updated on accounts (updated_at, id);
create index registrations_account on registrations (account_id);
create index registrations_updated on registrations (updated_at, id);
create index addresses_account on addresses (account_id);
create index addresses_updated on addresses (updated_at, id);
create index orders_account on orders (account_id);
create index orders_email on orders (lower(buyer_email));
create index orders_updated on orders (updated_at, id);
create index payments_order on payments (order_id);
create index payments_updated on payments (updated_at, id);
create index tickets_account on tickets (account_id);
create index tickets_email on tickets (lower(email));
create index tickets_updated on tickets (updated_at, id);

-- As connectors/sql/README.md advises where people are searched for by e-mail.
create index accounts_compared on accounts (lower(trim(email, char(32, 9, 10, 13))));
create index accounts_composed on accounts (email) where email glob '*[^!#$%&*+./0-9=?@A-Z^_`a-z{|}~-]*' or email glob '*@*@*';
create index orders_compared on orders (lower(trim(buyer_email, char(32, 9, 10, 13))));
create index orders_composed on orders (buyer_email) where buyer_email glob '*[^!#$%&*+./0-9=?@A-Z^_`a-z{|}~-]*' or buyer_email glob '*@*@*';
create index tickets_compared on tickets (lower(trim(email, char(32, 9, 10, 13))));
create index tickets_composed on tickets (email) where email glob '*[^!#$%&*+./0-9=?@A-Z^_`a-z{|}~-]*' or email glob '*@*@*';

create trigger accounts_touch after update on accounts when new.updated_at is old.updated_at begin
    update accounts set updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now') where id = new.id;
end;
create trigger registrations_touch after update on registrations when new.updated_at is old.updated_at begin
    update registrations set updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now') where id = new.id;
end;
create trigger addresses_touch after update on addresses when new.updated_at is old.updated_at begin
    update addresses set updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now') where id = new.id;
end;
create trigger orders_touch after update on orders when new.updated_at is old.updated_at begin
    update orders set updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now') where id = new.id;
end;
create trigger payments_touch after update on payments when new.updated_at is old.updated_at begin
    update payments set updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now') where id = new.id;
end;
create trigger tickets_touch after update on tickets when new.updated_at is old.updated_at begin
    update tickets set updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now') where id = new.id;
end;
