-- Whoever looks whether something is gone can look and nothing else.
create role lethe_observer login;
grant pg_read_all_data to lethe_observer;
