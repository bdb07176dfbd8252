-- Keys and indexes. The statements about one table are independent of those about another, except for foreign keys, which
-- come last.

ALTER TABLE res_company ADD PRIMARY KEY (id);
ALTER TABLE res_partner ADD PRIMARY KEY (id);
ALTER TABLE res_users ADD PRIMARY KEY (id), ADD UNIQUE (login);
ALTER TABLE ir_config_parameter ADD PRIMARY KEY (id), ADD UNIQUE (key);
ALTER TABLE ir_module_module ADD PRIMARY KEY (id), ADD UNIQUE (name);
ALTER TABLE ir_model_data ADD PRIMARY KEY (id), ADD UNIQUE (module, name);
ALTER TABLE ir_cron ADD PRIMARY KEY (id);
ALTER TABLE ir_attachment ADD PRIMARY KEY (id);
CREATE INDEX ir_attachment_res_idx ON ir_attachment (res_model, res_id);
CREATE INDEX ir_attachment_checksum_index ON ir_attachment (checksum);
CREATE INDEX ir_attachment_store_fname_index ON ir_attachment (store_fname);
ALTER TABLE product_product ADD PRIMARY KEY (id);
CREATE INDEX product_product_barcode_index ON product_product (barcode);
ALTER TABLE sale_order ADD PRIMARY KEY (id);
CREATE INDEX sale_order_date_order_index ON sale_order (date_order);
ALTER TABLE account_move ADD PRIMARY KEY (id);
CREATE INDEX account_move_date_index ON account_move (date);
CREATE INDEX account_move_name_index ON account_move (name);
ALTER TABLE pos_order ADD PRIMARY KEY (id);
CREATE INDEX pos_order_date_order_index ON pos_order (date_order);
CREATE UNIQUE INDEX pos_order_uuid_index ON pos_order (uuid);
ALTER TABLE pos_order_line ADD PRIMARY KEY (id);
CREATE INDEX pos_order_line_order_id_index ON pos_order_line (order_id);
ALTER TABLE stock_move ADD PRIMARY KEY (id);
CREATE INDEX stock_move_product_id_index ON stock_move (product_id, date);

ALTER TABLE res_company ADD FOREIGN KEY (partner_id) REFERENCES res_partner;
ALTER TABLE res_users ADD FOREIGN KEY (partner_id) REFERENCES res_partner, ADD FOREIGN KEY (company_id) REFERENCES res_company;
ALTER TABLE ir_cron ADD FOREIGN KEY (user_id) REFERENCES res_users;
ALTER TABLE ir_attachment ADD FOREIGN KEY (company_id) REFERENCES res_company, ADD FOREIGN KEY (create_uid) REFERENCES res_users;
ALTER TABLE sale_order ADD FOREIGN KEY (partner_id) REFERENCES res_partner;
ALTER TABLE account_move ADD FOREIGN KEY (partner_id) REFERENCES res_partner;
ALTER TABLE pos_order ADD FOREIGN KEY (account_move) REFERENCES account_move, ADD FOREIGN KEY (partner_id) REFERENCES res_partner;
ALTER TABLE pos_order_line ADD FOREIGN KEY (order_id) REFERENCES pos_order ON DELETE CASCADE,
	ADD FOREIGN KEY (product_id) REFERENCES product_product;
ALTER TABLE stock_move ADD FOREIGN KEY (product_id) REFERENCES product_product,
	ADD FOREIGN KEY (sale_order_id) REFERENCES sale_order;
