\set id random(1, :customers)
BEGIN;
UPDATE shop.customers SET first_name = 'never sent' WHERE id = :id;
SAVEPOINT s;
DELETE FROM shop.customers WHERE id = :id;
ROLLBACK TO s;
INSERT INTO shop.customers (email, first_name, last_name, language, plan, newsletter) VALUES ('never@example.com', 'never', 'sent', 'en', 'free', true);
ROLLBACK;
