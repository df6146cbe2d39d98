# An address that moves from one row to another, at a provider that knows contacts by external id and address: whoever takes
# it waits until the other has left it, in whatever order that is sent.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox(clock_speed => 20);
my $node = start_node('shared_preload_libraries' => '', 'contactsync.clock_speed' => 20, restart_after_crash => 'on');

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', "SET client_min_messages = warning; $sql"); }

# The contacts of a group of rows at the provider, as "1:a1 2:b1".
sub at_provider
{
	my ($group) = @_;

	return join(' ',
		map { "$_->{externalId}:" . $_->{email} =~ s/\@.*//r }
		sort { $a->{externalId} <=> $b->{externalId} }
		grep { $_->{email} =~ /\D$group@/ } @{ $sandbox->contacts('mailingcore', account => 'mc') });
}

sub failures { return sql(q{SELECT string_agg(key || ' ' || reason, ', ' ORDER BY key) FROM contactsync.failures}); }

create_server($node, $sandbox, 'mailingcore', account => 'mc', server => { pace => 1000, burst => 1000 });
sql(q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, first_name text);
	SELECT contactsync_watch('customers', 'mc', '{"email": "email", "external_id": "id", "first_name": "first_name"}');
});

# Rows 10 * group + 1 .. 3, with the addresses a, b and c; then the moves, each committed on its own; then deliver.
sub move
{
	my ($group, @moves) = @_;

	sql(join(';', map { "INSERT INTO customers VALUES ($group$_->[0], '$_->[1]$group\@example.com')" } [ 1, 'a' ], [ 2, 'b' ], [ 3, 'c' ])
		  . '; CALL contactsync_run()');
	sql("UPDATE customers SET email = '$_->[1]$group\@example.com' WHERE id = $group$_->[0]") foreach @moves;
	return;
}

sub deliver { sql('CALL contactsync_run()'); return; }

move(1, [ 1, 'x' ], [ 2, 'a' ]);
deliver();
is(at_provider(1), '11:x1 12:a1 13:c1', 'the row that leaves the address is sent first');

move(2, [ 2, 'a' ], [ 1, 'x' ]);
deliver();
is(at_provider(2), '21:x2 22:a2 23:c2', 'the row that takes the address is sent first');

move(3, [ 3, 'b' ], [ 2, 'a' ], [ 1, 'x' ]);
deliver();
is(at_provider(3), '31:x3 32:a3 33:b3', 'a chain');

# one call a contact
sql(q{ALTER SERVER mc OPTIONS (ADD batch_size '1')});
move(4, [ 3, 'b' ], [ 2, 'a' ], [ 1, 'x' ]);
deliver();
is(at_provider(4), '41:x4 42:a4 43:b4', 'a chain, one contact a call');
is(failures(), '', 'nothing fails');
sql(q{ALTER SERVER mc OPTIONS (DROP batch_size)});

# two rows that exchange their addresses cannot both go first
move(5, [ 1, 'b' ], [ 2, 'a' ]);
deliver();
is(failures(), '51 conflict, 52 conflict', 'an exchange is a conflict, and not tried for ever');
sql(q{UPDATE customers SET email = 'x5@example.com' WHERE id = 51; CALL contactsync_run()});
is(at_provider(5) . failures(), '51:x5 52:a5 53:c5', 'when one of them gives way, the other is sent by itself');

# two rows that have the same address
move(6, [ 2, 'a' ]);
deliver();
is(failures(), '62 conflict', 'a row with the address of another is a conflict');
my $requests = $sandbox->count('mailingcore')->{requests};
sql(q{SELECT contactsync_reconcile('customers', 'mc'); CALL contactsync_run()});
is(failures(), '62 conflict', 'also when it is reconciled');
sql(q{UPDATE customers SET email = 'x6@example.com' WHERE id = 61; CALL contactsync_run()});
is(at_provider(6) . failures(), '61:x6 62:a6 63:c6', 'it is sent when the other has left');

# however many such rows there are: the account does not refuse everybody
sql(q{INSERT INTO customers SELECT 700 + g, 'many' || g || 'x@example.com' FROM generate_series(1, 30) g; CALL contactsync_run()});
sql(q{INSERT INTO customers SELECT 800 + g, 'many' || g || 'x@example.com' FROM generate_series(1, 30) g; CALL contactsync_run()});
is(sql(q{SELECT count(*) FROM contactsync.failures WHERE reason = 'conflict'}), '30', 'many conflicts in a row do not halt the server');
sql(q{DELETE FROM customers WHERE id BETWEEN 700 AND 899; CALL contactsync_run()});

# a row that was in conflict does not speak over one of the same contact that spoke since
sql(q{INSERT INTO customers VALUES (71, 'a7@example.com', 'Ann'), (72, 'b7@example.com', 'Bob'); CALL contactsync_run()});
sql(q{
	CREATE TABLE others (id int PRIMARY KEY, email text, crm_id text, first_name text);
	SELECT contactsync_watch('others', 'mc', '{"email": "email", "external_id": "crm_id", "first_name": "first_name"}');
	INSERT INTO others VALUES (1, 'a7@example.com', '72', 'Early');
	CALL contactsync_run()});
is(failures(), '1 conflict', 'a second row of a contact has the address of another one');
sql(q{UPDATE customers SET first_name = 'Late' WHERE id = 72; CALL contactsync_run()});
sql(q{UPDATE customers SET email = 'x7@example.com' WHERE id = 71; CALL contactsync_run()});
is(join(' ', map { "$_->{email} $_->{attributes}{firstName}" } grep { $_->{externalId} eq '72' } @{ $sandbox->contacts('mailingcore', account => 'mc') }), 'b7@example.com Late', 'when that is free, it is left to the row that spoke since');
is(failures(), '', 'and fails no more');
sql(q{SELECT contactsync_unwatch('others', 'mc'); DELETE FROM customers WHERE id > 70; CALL contactsync_run()});

# a row whose own contact has the address that it is to have under an external id that is another row's
sql(q{
	CREATE TABLE leads (id int PRIMARY KEY, email text, crm_id text);
	SELECT contactsync_watch('leads', 'mc', '{"email": "email", "external_id": "crm_id"}');
	INSERT INTO leads VALUES (1, 'lead1@example.com', NULL), (2, 'lead2@example.com', 'crm-2');
	CALL contactsync_run()});
$requests = $sandbox->count('mailingcore')->{requests};
sql(q{UPDATE leads SET crm_id = 'crm-2' WHERE id = 1; CALL contactsync_run()});
is(sql(q{SELECT key, reason FROM contactsync.failures WHERE source = 'leads'::regclass}), '1|conflict', 'such a row is a conflict');
is($sandbox->count('mailingcore')->{requests} - $requests, 2, 'which does not wait for itself');
sql(q{SELECT contactsync_unwatch('leads', 'mc')});

# a row is deleted, and another one is inserted with its address
sql(q{
	CREATE TABLE guests (id int PRIMARY KEY, email text, crm_id text, wants boolean);
	SELECT contactsync_watch('guests', 'mc', '{"email": "email", "external_id": "crm_id", "opt_in": "wants"}', on_delete => 'delete', delete_delay => '10 s');
	INSERT INTO guests VALUES (1, 'guest@example.com', 'g1', true);
	CALL contactsync_run()});
sql(q{DELETE FROM guests; CALL contactsync_run(); INSERT INTO guests VALUES (2, 'guest@example.com', 'g2', NULL); CALL contactsync_run()});
my $guests = q{SELECT string_agg(key || ' ' || reason, ', ') FROM contactsync.failures WHERE source = 'guests'::regclass};
is(sql($guests), '2 conflict', 'the address of a contact that is not removed yet is a conflict');
my $guest = sub { join ' ', map { $_->{externalId} // '' } grep { $_->{email} eq 'guest@example.com' } @{ $sandbox->contacts('mailingcore', account => 'mc') } };
wait_for('the removal', sub { sql(q{CALL contactsync_run()}); $guest->() ne 'g1' });
sql(q{CALL contactsync_run()});
is($guest->() . sql($guests), 'g2', 'when it is removed, the row is sent by itself');

# a contact whose row has no external id any more is deleted by the one that it had
sql(q{UPDATE guests SET crm_id = NULL; CALL contactsync_run(); DELETE FROM guests; CALL contactsync_run()});
wait_for('the removal', sub { sql(q{CALL contactsync_run()}); $guest->() eq '' });
is(sql($guests), '', 'a contact is deleted by the external id that it had');
is(sql(q{SELECT count(*) FROM contactsync.contacts WHERE source = 'guests'::regclass}), 0, 'nothing is left of it here');
sql(q{SELECT contactsync_unwatch('guests', 'mc')});

# the external id is the address
sql(q{
	CREATE TABLE members (email text PRIMARY KEY);
	SELECT contactsync_watch('members', 'mc', '{"email": "email", "external_id": "email"}', on_delete => 'delete', delete_delay => '0');
	INSERT INTO members VALUES ('member@example.com');
	CALL contactsync_run(); DELETE FROM members; CALL contactsync_run()});
is(join('', grep { /member/ } map { $_->{email} } @{ $sandbox->contacts('mailingcore', account => 'mc') }), '', 'a contact whose external id is its address is deleted');
is(sql(q{SELECT count(*) FROM contactsync.failures WHERE source = 'members'::regclass}), 0, 'without a failure');
sql(q{SELECT contactsync_unwatch('members', 'mc')});

# with the worker
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'contactsync'");
$node->stop;
$node->start;

foreach my $case (
	[ 7, 'is slow', {}, 'before' ],
	[ 8, 'is lost', { status => 500 }, 'after' ],
	[ 9, 'is refused for a while', { status => 503 }, 'before' ])
{
	my ($group, $title, $action, $effect) = @$case;

	sql(join(';', map { "INSERT INTO customers VALUES ($group$_->[0], '$_->[1]$group\@example.com')" } [ 1, 'a' ], [ 2, 'b' ]) . q{; CALL contactsync_wait('mc')});
	my $since = $sandbox->journal('mailingcore')->[-1]{seq};
	$sandbox->fault('mailingcore', { match => { key => "x$group\@example.com" }, effect => $effect, action => { %$action, stall => \1 } });
	sql("UPDATE customers SET email = 'x$group\@example.com' WHERE id = ${group}1");
	$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{seq} > $since && $_[-1]{in_flight} });
	sql("UPDATE customers SET email = 'a$group\@example.com' WHERE id = ${group}2");
	sql("SELECT contactsync_upsert('mc', '{\"email\": \"later$group\@example.com\", \"external_id\": \"later$group\"}')");
	$sandbox->wait_for_journal('mailingcore', sub { grep { grep { $_ eq "later$group\@example.com" } @{ $_->{keys} } } @_ });
	sql(q{ALTER SERVER mc OPTIONS (ADD max_retries '6')}) if $group == 7;
	$sandbox->clear_faults('mailingcore');
	sql(q{CALL contactsync_wait('mc')});
	is(at_provider("(?<!later)$group"), "${group}1:x$group ${group}2:a$group", "the call that leaves the address $title: the other waits");
}
is(failures(), '', 'nothing fails');

# the worker is killed while the call that leaves the address is under way
sql(q{INSERT INTO customers VALUES (101, 'a10@example.com'), (102, 'b10@example.com'); CALL contactsync_wait('mc')});
$sandbox->fault('mailingcore', { match => { key => 'x10@example.com' }, effect => 'before', action => { stall => \1 } });
my $since = $sandbox->journal('mailingcore')->[-1]{seq};
sql(q{UPDATE customers SET email = 'x10@example.com' WHERE id = 101});
$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{seq} > $since && $_[-1]{in_flight} });
sql(q{UPDATE customers SET email = 'a10@example.com' WHERE id = 102});
flush_wal($node);
crash_worker($node, 'postgres');
$sandbox->clear_faults('mailingcore');
sql(q{CALL contactsync_wait('mc')});
is(at_provider(10) . failures(), '101:x10 102:a10', 'so it does after a crash');

# a row that another contact of ours keeps from its address remains a failure as long as it spoke last
create_server($node, $sandbox, 'mailingcore', account => 'late', server => { pace => 1000, burst => 1000 });
sql(q{
	CREATE TABLE late (id int PRIMARY KEY, customer text, email text, first_name text, opt_in boolean);
	SELECT contactsync_watch('late', 'late', '{"email": "email", "external_id": "customer", "first_name": "first_name", "opt_in": "opt_in"}')});

sub late { sql("$_[0]; CALL contactsync_run('late')"); return; }

sub late_failures { return sql(q{SELECT string_agg(key || ' ' || reason, ', ' ORDER BY key) FROM contactsync.failures WHERE server = 'late'}); }

sub late_contacts { return join(' ', sort map { "$_->{externalId}:" . $_->{email} =~ s/\@.*//r . ":$_->{attributes}{firstName}" } @{ $sandbox->contacts('mailingcore', account => 'late') }); }

foreach my $opt_in ('NULL', 'false')
{
	my ($c, $d, $e, $f, $n) = $opt_in eq 'NULL' ? ('c', 'd', 'e', 'f', '') : ('g', 'h', 'i', 'j', 1);

	late("INSERT INTO late VALUES (${n}1, '$c', '$c\@example.com', 'C'), (${n}2, '$d', '$d\@example.com', 'D')");
	late("INSERT INTO late VALUES (${n}3, '$d', '$c\@example.com', 'E', $opt_in)");
	is(late_failures(), "${n}3 conflict", "a new row of a contact has the address of another one, opt_in $opt_in");
	late(q{SELECT contactsync_reconcile('late', 'late', automations => 'accepted')});
	is(late_failures(), "${n}3 conflict", '... which a reconciliation does not change');
	late(q{SELECT contactsync_retry('late')});
	is(late_failures(), "${n}3 conflict", '... nor a retry');
	late("UPDATE late SET email = '$e\@example.com' WHERE id = ${n}1");
	late(q{SELECT contactsync_retry('late')});
	is(late_failures(), '', '... but when that one has another address');
	like(late_contacts(), qr/$c:$e:C $d:$c:E/, '... it is sent');
	late("UPDATE late SET email = '$f\@example.com' WHERE id = ${n}3");
	late("UPDATE late SET email = '$e\@example.com' WHERE id = ${n}2");
	is(late_failures(), "${n}2 conflict", 'a row has the address of another one');
	late("UPDATE late SET first_name = '$_' WHERE id = ${n}3") foreach qw(F E);
	late("UPDATE late SET email = '$c\@example.com' WHERE id = ${n}1");
	late(q{SELECT contactsync_retry('late')});
	like(late_contacts(), qr/$c:$c:C $d:$f:E/, 'it does not speak for a contact that another one has spoken for since');
}

# another mapping has rows share a contact: it gets what was said last, whichever row is read first, also later
create_server($node, $sandbox, 'mailingcore', account => 'joined', server => { pace => 1000, burst => 1000 });
sql(q{
	CREATE TABLE joined (id int PRIMARY KEY, email text, shared text, first_name text);
	SELECT contactsync_watch('joined', 'joined', '{"email": "email", "first_name": "first_name"}')});

sub joined
{
	my ($sql) = @_;

	sql("$sql; CALL contactsync_run('joined')");
	return join(' ',
		sort map { ($_->{externalId} ? "$_->{externalId}:" : '') . $_->{email} =~ s/\@.*//r . ":$_->{attributes}{firstName}" }
		grep { $_->{email} =~ /^[sx]/ } @{ $sandbox->contacts('mailingcore', account => 'joined') });
}

joined(q{INSERT INTO joined SELECT g, format('a%s@example.com', g), format('s%s@example.com', (g + 1) / 2), 'A' || g FROM generate_series(1, 4) g});
joined("UPDATE joined SET first_name = 'B$_' WHERE id = $_") foreach 2, 1, 3, 4;
is(joined(q{SELECT contactsync_alter_watch('joined', 'joined', mapping => '{"email": "shared", "first_name": "first_name"}'), contactsync_reconcile('joined', 'joined', automations => 'accepted')}),
	's1:B1 s2:B4', 'another mapping has two rows share a contact, which gets what was said last');
is(joined(q{SELECT contactsync_mark_stale('joined'), contactsync_reconcile('joined', 'joined', automations => 'accepted')}), 's1:B1 s2:B4', '... which is sent again');

# another mapping gives the rows of one address several contacts, of which only one can have it
sql(q{
	SELECT contactsync_unwatch('joined', 'joined');
	CREATE TABLE split (id int PRIMARY KEY, customer text, email text, first_name text);
	SELECT contactsync_watch('split', 'joined', '{"email": "email", "first_name": "first_name"}')});
joined(q{INSERT INTO split SELECT g, 'c' || g, format('x%s@example.com', (g + 1) / 2), 'A' || g FROM generate_series(1, 4) g});
joined("UPDATE split SET first_name = 'B$_' WHERE id = $_") foreach 2, 1, 3, 4;
like(joined(q{SELECT contactsync_alter_watch('split', 'joined', mapping => '{"email": "email", "first_name": "first_name", "external_id": "customer"}'), contactsync_reconcile('split', 'joined', automations => 'accepted')}),
	qr/c1:x1:B1 c4:x2:B4/, 'another mapping gives each row a contact of its own: the one that spoke last has the address');
is(sql(q{SELECT string_agg(key || ' ' || reason, ', ' ORDER BY key) FROM contactsync.failures WHERE server = 'joined'}), '2 conflict, 3 conflict', '... and the others are failures');
joined(q{INSERT INTO split VALUES (5, 'c2', 'x5@example.com', 'A5')});
like(joined(q{UPDATE split SET email = 'x6@example.com' WHERE id = 1}), qr/c2:x5:A5/, '... which do not speak for a contact that another row has spoken for since');

# another mapping has two rows share a contact that both failed before: it gets what was said last
create_server($node, $sandbox, 'mailingcore', account => 'refused', server => { pace => 1000, burst => 1000 });
sql(q{
	CREATE TABLE refused (id int PRIMARY KEY, customer text, email text, first_name text);
	SELECT contactsync_watch('refused', 'refused', '{"email": "email", "first_name": "first_name", "external_id": "customer"}')});

sub refused
{
	my ($sql) = @_;

	sql("$sql; CALL contactsync_run('refused')");
	return join(' ', sort map { $_->{email} =~ s/\@.*//r . ":$_->{attributes}{firstName}" } @{ $sandbox->contacts('mailingcore', account => 'refused') });
}

$sandbox->call('POST', 'mailingcore/people', { account => 'refused', email => "s$_\@example.com", act => 'opt_in' }) foreach 1, 2;
refused(q{INSERT INTO refused SELECT g, 'c' || g, format('r%s@example.com', g), 'A' || g FROM generate_series(1, 4) g});
refused("UPDATE refused SET email = 's' || (id + 1) / 2 || '\@example.com', first_name = 'B' || id WHERE id = $_") foreach 2, 1, 3, 4;
is(sql(q{SELECT string_agg(key || ' ' || reason, ', ' ORDER BY key) FROM contactsync.failures WHERE server = 'refused'}), '1 conflict, 2 conflict, 3 conflict, 4 conflict', 'rows have addresses of contacts that are not ours');
refused(q{INSERT INTO refused SELECT g + 4, 'c' || g, format('r%s@example.com', g), 'C' || g FROM generate_series(1, 4) g});
is(refused(q{SELECT contactsync_alter_watch('refused', 'refused', mapping => '{"email": "email", "first_name": "first_name"}'), contactsync_reconcile('refused', 'refused', automations => 'accepted')}),
	'r1:C1 r2:C2 r3:C3 r4:C4 s1:B1 s2:B4', 'another mapping has two rows share a contact that both failed before, which gets what was said last');

$node->stop;
done_testing();
