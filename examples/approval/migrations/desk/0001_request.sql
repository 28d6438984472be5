create table request (
    id text primary key,
    who text not null,
    amount integer not null,
    state text not null,
    reason text not null
);
