# Rows applied by logical replication are mirrored if the watch says always, and not otherwise, because the publisher may
# mirror them itself.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $publisher = start_node(-name => 'publisher', -allows_streaming => 'logical', 'shared_preload_libraries' => '');
my $subscriber = start_node(-name => 'subscriber');
my $tables = q{
	CREATE TABLE followed (id int PRIMARY KEY, email text, note text);
	CREATE TABLE ignored (id int PRIMARY KEY, email text, note text);
	CREATE TABLE applied (id int PRIMARY KEY, email text, note text);
};

create_server($subscriber, $sandbox, 'mailingcore', account => 'crm');
$publisher->safe_psql(
	'postgres', qq{
	$tables
	INSERT INTO followed VALUES (1, 'f1\@example.com');
	INSERT INTO ignored VALUES (101, 'i1\@example.com');
	CREATE PUBLICATION customers FOR TABLE followed, ignored, applied;
});
$subscriber->safe_psql(
	'postgres', qq{
	$tables
	SELECT contactsync_watch('followed', 'crm', '{"email": "email", "external_id": "id"}', on_delete => 'delete', delete_delay => '0', always => true);
	SELECT contactsync_watch('ignored', 'crm', '{"email": "email", "external_id": "id"}');
	SELECT contactsync_watch('applied', 'crm', '{"email": "email", "external_id": "id"}', always => 'replica');
	CREATE SUBSCRIPTION customers CONNECTION @{[quote_literal($publisher->connstr('postgres'))]} PUBLICATION customers;
});
$subscriber->wait_for_subscription_sync($publisher, 'customers');

sub arrived
{
	$publisher->wait_for_catchup('customers');
	$subscriber->safe_psql('postgres', q{CALL contactsync_wait('crm')});
	return join(',', sort map { "$_->{externalId} $_->{email}" } @{ $sandbox->contacts('mailingcore', account => 'crm') });
}

is(arrived(), '1 f1@example.com', 'rows of the initial copy are mirrored');

$publisher->safe_psql(
	'postgres', q{
	BEGIN;
	INSERT INTO followed VALUES (2, 'f2@example.com'), (3, 'f3@example.com');
	INSERT INTO ignored VALUES (102, 'i2@example.com');
	SAVEPOINT s;
	INSERT INTO followed VALUES (4, 'f4@example.com');
	ROLLBACK TO s;
	COMMIT;
	UPDATE followed SET email = 'g1@example.com' WHERE id = 1;
	UPDATE ignored SET email = 'j1@example.com';
});
is(arrived(), '1 g1@example.com,2 f2@example.com,3 f3@example.com', 'applied rows are mirrored');

is($subscriber->safe_psql('postgres', q{SELECT source, reason, hint FROM contactsync.status ORDER BY source::text}), "applied||\nfollowed||\n"
	. "ignored|subscriber: rows that a subscription applies to the table are not captured|SELECT contactsync_alter_watch('ignored', 'crm', always => true); has the triggers fire for them."
	. " For those that came before: SELECT contactsync_import('ignored', 'crm');", 'status says which table misses what is applied, and what to do');

my $requests = $sandbox->count('mailingcore')->{requests};
$publisher->safe_psql('postgres', q{UPDATE followed SET note = 'seen'});
arrived();
is($sandbox->count('mailingcore')->{requests}, $requests, 'changes of other columns cause no call');

$publisher->safe_psql('postgres', q{DELETE FROM followed WHERE id = 2});
is(arrived(), '1 g1@example.com,3 f3@example.com', 'deleted rows are deleted at the provider');
$publisher->safe_psql('postgres', q{TRUNCATE followed; INSERT INTO followed VALUES (5, 'f5@example.com')});
is(arrived(), '5 f5@example.com', 'rows of a truncated table are deleted at the provider');

$subscriber->safe_psql('postgres', q{INSERT INTO ignored VALUES (200, 'own@example.com')});
is(arrived(), '200 own@example.com,5 f5@example.com', 'rows of the subscriber itself are mirrored, too');

# 'replica': rows that are applied, and no others
$publisher->safe_psql('postgres', q{INSERT INTO applied VALUES (300, 'applied@example.com')});
$subscriber->safe_psql('postgres', q{INSERT INTO applied VALUES (301, 'own@example.com')});
is(arrived(), '200 own@example.com,300 applied@example.com,5 f5@example.com', q{with 'replica' only rows that are applied are mirrored});
is($subscriber->safe_psql('postgres', q{SELECT string_agg(source || ' ' || always, ', ' ORDER BY source::text) FROM contactsync.watches}),
	'applied replica, followed true, ignored false', 'contactsync.watches says which it is');
my (undef, undef, $stderr) = $subscriber->psql('postgres', q{SELECT contactsync_alter_watch('applied', 'crm', always => 'sometimes')});
like($stderr, qr/ERROR:  invalid value for "always": "sometimes"\nHINT:  Use true, false or 'replica', which is for those rows only/, 'there are three values');
$subscriber->safe_psql('postgres', q{SELECT contactsync_alter_watch('applied', 'crm', always => false)});
is($subscriber->safe_psql('postgres', q{SELECT always FROM contactsync.watches WHERE source = 'applied'::regclass}), 'false', 'which can be changed');

$subscriber->stop;
$publisher->stop;
done_testing();
