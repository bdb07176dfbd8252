-- Rows of a shop with @orders orders, the last of them at @now. Statements are independent and may run in any order.

INSERT INTO res_company (name, partner_id) VALUES ('North Retail', 1);

INSERT INTO res_users (login, partner_id, company_id, create_date, write_date)
SELECT 'cashier-' || i, i, 1, @now, @now FROM generate_series(1, 20) i;

INSERT INTO ir_config_parameter (key, value)
VALUES ('database.uuid', gen_random_uuid()), ('web.base.url', 'https://odoo.example.com'), ('mail.catchall.domain', 'example.com');

INSERT INTO ir_module_module (name, state, latest_version, author, license, application)
SELECT name, CASE WHEN i <= 40 THEN 'installed' ELSE 'uninstalled' END, CASE WHEN i <= 40 THEN '17.0.1.' || i % 7 END,
	'Odoo S.A.', 'LGPL-3', i % 5 = 0
FROM (SELECT i, coalesce((ARRAY['base', 'web', 'mail', 'product', 'stock', 'account', 'sale', 'point_of_sale'])[i], 'module_' || i) AS name
	FROM generate_series(1, 600) i) m;

INSERT INTO ir_cron (cron_name, user_id, active, interval_number, interval_type, nextcall, priority)
SELECT name, 1, true, 1, 'days', @now, 5
FROM unnest(ARRAY['Base: Auto-vacuum internal data', 'Mail: Email Queue Manager', 'Procurement: run scheduler']) name;

INSERT INTO ir_model_data (module, name, model, res_id)
VALUES ('base', 'autovacuum_job', 'ir.cron', 1), ('mail', 'ir_cron_mail_scheduler_action', 'ir.cron', 2),
	('stock', 'ir_cron_scheduler_action', 'ir.cron', 3), ('base', 'main_company', 'res.company', 1);

INSERT INTO res_partner (name, email, phone, street, zip, city, company_id, type, color, create_uid, create_date, write_uid, write_date)
SELECT 'Customer ' || i, 'customer-' || i || '@example.com', '+49 30 ' || 1000000 + i, 'Street ' || i % 200 || ' no. ' || i % 90,
	lpad((i % 99999)::text, 5, '0'), (ARRAY['Berlin', 'Hamburg', 'Leipzig', 'Kiel'])[1 + i % 4], 1, 'contact', i % 11,
	1, @now::timestamp - interval '1 year', 1, @now
FROM generate_series(1, 1000 + @orders::int / 10) i;

INSERT INTO product_product (default_code, barcode, name, list_price, weight, create_date, write_date)
SELECT 'P' || lpad(i::text, 6, '0'), '40' || lpad((i * 7919)::text, 11, '0'),
	jsonb_build_object('en_US', 'Product ' || i, 'de_DE', 'Artikel ' || i), 1 + i % 90, (i % 400) / 100.0, @now, @now
FROM generate_series(1, 5000) i;

INSERT INTO sale_order (name, state, date_order, partner_id, user_id, company_id, amount_untaxed, amount_tax, amount_total, note,
	access_token, create_uid, create_date, write_uid, write_date)
SELECT 'S' || lpad(i::text, 7, '0'), 'sale', at, 1 + i % 1000, 1 + i % 20, 1, i % 900, i % 900 * 0.19, i % 900 * 1.19,
	'<p>Terms: delivery within ' || i % 14 || ' days, returns within ' || i % 30 || ' days of the receipt.</p>', gen_random_uuid(),
	1, at, 1, at
FROM generate_series(1, @orders::int / 5) i, LATERAL (SELECT @now::timestamp - (@orders::int / 5 - i) * interval '5 minutes') t(at);

INSERT INTO account_move (name, ref, state, move_type, date, journal_id, partner_id, company_id, amount_total, amount_residual,
	payment_state, narration, inalterable_hash, sequence_number, create_uid, create_date, write_uid, write_date)
SELECT 'POSS/2026/' || lpad(i::text, 8, '0'), 'Shop/' || lpad(i::text, 8, '0'), 'posted', 'out_receipt', at::date, 1 + i % 9,
	1 + i % 1000, 1, 3 * (1 + i % 90), 0, 'paid', 'Receipt of till ' || i % 12, sha256(i::text::bytea), i, 1, at, 1, at
FROM generate_series(1, @orders::int) i, LATERAL (SELECT @now::timestamp - (@orders::int - i) * interval '1 minute') t(at);

INSERT INTO pos_order (name, pos_reference, uuid, state, date_order, session_id, partner_id, user_id, company_id, account_move,
	amount_tax, amount_total, amount_paid, amount_return, access_token, create_uid, create_date, write_uid, write_date)
SELECT 'Shop/' || lpad(i::text, 8, '0'), 'Order ' || lpad((i / 1000)::text, 5, '0') || '-' || i % 1000, gen_random_uuid(), 'done',
	at, 1 + i / 300, CASE WHEN i % 3 = 0 THEN 1 + i % 1000 END, 1 + i % 20, 1, i, 3 * (1 + i % 90) * 0.19, 3 * (1 + i % 90),
	3 * (1 + i % 90), 0, gen_random_uuid(), 1 + i % 20, at, 1 + i % 20, at
FROM generate_series(1, @orders::int) i, LATERAL (SELECT @now::timestamp - (@orders::int - i) * interval '1 minute') t(at);

INSERT INTO pos_order_line (name, order_id, product_id, qty, price_unit, price_subtotal, price_subtotal_incl, discount,
	full_product_name, uuid, create_uid, create_date, write_uid, write_date)
SELECT 'Shop/' || lpad(o::text, 8, '0') || '/' || i % 3, o, 1 + i % 5000, 1, 1 + o % 90, (1 + o % 90) / 1.19, 1 + o % 90, 0,
	'Product ' || 1 + i % 5000, gen_random_uuid(), 1 + o % 20, at, 1 + o % 20, at
FROM generate_series(0, 3 * @orders::int - 1) i, LATERAL (SELECT 1 + i / 3) n(o),
	LATERAL (SELECT @now::timestamp - (@orders::int - o) * interval '1 minute') t(at);

INSERT INTO stock_move (name, reference, origin, state, date, product_id, product_uom_qty, quantity, location_id, location_dest_id,
	company_id, create_uid, create_date, write_uid, write_date)
SELECT 'Product ' || 1 + i % 5000, 'WH/POS/' || lpad(o::text, 8, '0'), 'Shop/' || lpad(o::text, 8, '0'), 'done', at, 1 + i % 5000,
	1, 1, 8, 5, 1, 1, at, 1, at
FROM generate_series(0, 3 * @orders::int - 1) i, LATERAL (SELECT 1 + i / 3) n(o),
	LATERAL (SELECT @now::timestamp - (@orders::int - o) * interval '1 minute') t(at);
