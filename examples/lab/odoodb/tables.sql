-- What backups of an Odoo database have to do with, with the names and types of Odoo's own tables. Keys and indexes come
-- after the rows, see keys.sql.

CREATE TABLE res_company (id serial, name varchar NOT NULL, partner_id int);
CREATE TABLE res_partner (
	id serial, name varchar, email varchar, phone varchar, street varchar, zip varchar, city varchar,
	company_id int, active bool DEFAULT true, type varchar, color int,
	create_uid int, create_date timestamp, write_uid int, write_date timestamp);
CREATE TABLE res_users (
	id serial, login varchar NOT NULL, partner_id int NOT NULL, company_id int NOT NULL, active bool DEFAULT true,
	create_date timestamp, write_date timestamp);
CREATE TABLE ir_config_parameter (id serial, key varchar NOT NULL, value text NOT NULL);
CREATE TABLE ir_module_module (
	id serial, name varchar NOT NULL, state varchar(16), latest_version varchar, author varchar, license varchar(32),
	application bool DEFAULT false, auto_install bool DEFAULT false);
CREATE TABLE ir_model_data (
	id serial, module varchar NOT NULL, name varchar NOT NULL, model varchar NOT NULL, res_id int, noupdate bool DEFAULT false);
CREATE TABLE ir_cron (
	id serial, cron_name varchar, user_id int NOT NULL, active bool, interval_number int, interval_type varchar,
	nextcall timestamp NOT NULL, lastcall timestamp, priority int);
CREATE TABLE ir_attachment (
	id serial, name varchar NOT NULL, res_model varchar, res_field varchar, res_id int, company_id int, type varchar NOT NULL,
	url varchar(1024), public bool, access_token varchar, db_datas bytea, store_fname varchar, file_size int,
	checksum varchar(40), mimetype varchar, index_content text,
	create_uid int, create_date timestamp, write_uid int, write_date timestamp);
CREATE TABLE product_product (
	id serial, default_code varchar, barcode varchar, name jsonb, list_price numeric, weight numeric, active bool DEFAULT true,
	create_date timestamp, write_date timestamp);
CREATE TABLE sale_order (
	id serial, name varchar NOT NULL, state varchar, date_order timestamp NOT NULL, partner_id int NOT NULL, user_id int,
	company_id int NOT NULL, amount_untaxed numeric, amount_tax numeric, amount_total numeric, note text, access_token varchar,
	create_uid int, create_date timestamp, write_uid int, write_date timestamp);
CREATE TABLE account_move (
	id serial, name varchar, ref varchar, state varchar NOT NULL, move_type varchar NOT NULL, date date NOT NULL,
	journal_id int, partner_id int, company_id int NOT NULL, amount_total numeric, amount_residual numeric,
	payment_state varchar, narration text, inalterable_hash varchar, sequence_number int,
	create_uid int, create_date timestamp, write_uid int, write_date timestamp);
CREATE TABLE pos_order (
	id serial, name varchar NOT NULL, pos_reference varchar, uuid varchar, state varchar, date_order timestamp, session_id int,
	partner_id int, user_id int, company_id int NOT NULL, account_move int, amount_tax numeric NOT NULL,
	amount_total numeric NOT NULL, amount_paid numeric NOT NULL, amount_return numeric NOT NULL, access_token varchar,
	create_uid int, create_date timestamp, write_uid int, write_date timestamp);
CREATE TABLE pos_order_line (
	id serial, name varchar NOT NULL, order_id int NOT NULL, product_id int NOT NULL, qty numeric, price_unit numeric,
	price_subtotal numeric NOT NULL, price_subtotal_incl numeric NOT NULL, discount numeric, full_product_name varchar,
	uuid varchar, create_uid int, create_date timestamp, write_uid int, write_date timestamp);
CREATE TABLE stock_move (
	id serial, name varchar NOT NULL, reference varchar, origin varchar, state varchar, date timestamp NOT NULL,
	product_id int NOT NULL, product_uom_qty numeric NOT NULL, quantity numeric, location_id int NOT NULL,
	location_dest_id int NOT NULL, company_id int NOT NULL, sale_order_id int,
	create_uid int, create_date timestamp, write_uid int, write_date timestamp);
