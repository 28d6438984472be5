create table ended (saga_id text primary key, ending text not null);
