create table budget (
    year integer primary key,
    free integer not null check (free >= 0)
);

insert into budget (year, free) values (2026, 10000);
