# What is a word of the person: opt_in of an address that turns to true, whichever row says so.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node(restart_after_crash => 'on');

# everything is done by a role that owns nothing but its servers and tables
$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop});

sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'shop' ]); }

foreach my $name (qw(mailingcore campaignlark))
{
	my $account = "words$name";
	my ($key, $is_in, $out) = $name eq 'mailingcore' ? ('email', sub { $_[0]{optIn} }, { optIn => JSON::PP::false }) :
		('email_address', sub { $_[0]{status} eq 'SUBSCRIBED' }, { status => 'UNSUBSCRIBED' });
	my $settle = sub { sql("$_[0]; CALL contactsync_wait('$account')") };
	my $is_in_now = sub {
		my ($contact) = grep { $_->{$key} eq $_[0] } @{ $sandbox->contacts($name, account => $account) };
		return $is_in->($contact) ? 1 : 0;
	};
	my $opt_out = sub { $sandbox->call('POST', "$name/people", { account => $account, email => $_[0], act => 'opt_out' }) };

	create_server($node, $sandbox, $name, account => $account, role => 'shop', server => { pace => 500, burst => 50 });
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, wants boolean, first_name text);
		SELECT contactsync_watch('$name', '$account', '{"email": "email", "opt_in": "wants", "first_name": "first_name"}')});

	# a row that says no gets another key and says yes in one change
	$settle->("INSERT INTO $name VALUES (1, 'a\@example.com', false, 'A')");
	is($is_in_now->('a@example.com'), 0, "$name: no arrives");
	$settle->("UPDATE $name SET id = 2, wants = true WHERE id = 1");
	is($is_in_now->('a@example.com'), 1, "$name: opt_in that becomes true together with a key is a word");

	# a key alone is none
	$opt_out->('a@example.com');
	$settle->("UPDATE $name SET id = 3 WHERE id = 2");
	is($is_in_now->('a@example.com'), 0, "$name: a key alone is none");
	$settle->("DELETE FROM $name WHERE id = 3");
	$settle->("INSERT INTO $name VALUES (3, 'a\@example.com', true, 'A')");
	is($is_in_now->('a@example.com'), 0, "$name: nor is a row that said true and is inserted again");

	# delete and insert
	$settle->("INSERT INTO $name VALUES (10, 'b\@example.com', false, 'B')");
	$settle->("BEGIN; DELETE FROM $name WHERE id = 10; INSERT INTO $name VALUES (11, 'b\@example.com', true, 'B'); COMMIT");
	is($is_in_now->('b@example.com'), 1, "$name: a row that says no is replaced by one that says yes");
	$settle->("INSERT INTO $name VALUES (20, 'c\@example.com', false, 'C')");
	$settle->("DELETE FROM $name WHERE id = 20");
	$settle->("INSERT INTO $name VALUES (21, 'c\@example.com', true, 'C')");
	is($is_in_now->('c@example.com'), 1, "$name: ... also if it had gone before");

	# ... and another one, which says true as before, speaks for the contact meanwhile
	$settle->("INSERT INTO $name VALUES (22, 'v\@example.com', true, 'V'), (23, 'v\@example.com', true, 'W')");
	$settle->("UPDATE $name SET wants = false WHERE id = 22");
	is($is_in_now->('v@example.com'), 0, "$name: one of two rows says no");
	$settle->("DELETE FROM $name WHERE id = 22");
	is($is_in_now->('v@example.com'), 0, "$name: when it has gone, the other one says nothing new");
	$settle->("INSERT INTO $name VALUES (24, 'v\@example.com', true, 'V')");
	is($is_in_now->('v@example.com'), 1, "$name: ... but a row does that takes its place");

	# another row says no
	$settle->("INSERT INTO $name VALUES (30, 'd\@example.com', false, 'D'), (31, 'd\@example.com', false, 'D')");
	$settle->("UPDATE $name SET id = 32, wants = true WHERE id = 31");
	is($is_in_now->('d@example.com'), 0, "$name: while another row says no, the key changes nothing");
	# another row said no last, and one that always said true gets another key
	$settle->("INSERT INTO $name VALUES (40, 'e\@example.com', true, 'E'), (41, 'e\@example.com', NULL, 'E')");
	is($is_in_now->('e@example.com'), 1, "$name: yes arrives");
	$settle->("UPDATE $name SET wants = false WHERE id = 41");
	is($is_in_now->('e@example.com'), 0, "$name: so does no of another row");
	$settle->("BEGIN; DELETE FROM $name WHERE id = 41; UPDATE $name SET id = 42 WHERE id = 40; COMMIT");
	is($is_in_now->('e@example.com'), 0, "$name: a row that always said true says nothing new under another key");

	# contactsync_upsert() said no, and its contact stands
	$settle->("SELECT contactsync_upsert('$account', '{\"email\": \"g\@example.com\", \"opt_in\": false}')");
	$settle->("INSERT INTO $name VALUES (60, 'g\@example.com', true, 'G')");
	is($is_in_now->('g@example.com'), 0, "$name: a new row says nothing while contactsync_upsert() says no");

	# ... which says nothing without opt_in; what it said before stands then. CampaignLark needs a status for new contacts
	$node->safe_psql('postgres', "ALTER SERVER $account OPTIONS (ADD new_contacts 'unsubscribed')") if $name eq 'campaignlark';
	my $upsert = sub { $settle->("SELECT contactsync_upsert('$account', '{\"email\": \"$_[0]\@example.com\"$_[1]}')") };
	$settle->("INSERT INTO $name VALUES (64, 'u\@example.com', false, 'U'), (66, 'v\@example.com', false, 'V')");
	$upsert->('u', '');
	$settle->("UPDATE $name SET id = 65, wants = true WHERE id = 64");
	is($is_in_now->('u@example.com'), 1, "$name: contactsync_upsert() without opt_in does not keep a word back");
	$upsert->('v', ', "opt_in": false');
	$upsert->('v', '');
	$settle->("UPDATE $name SET id = 67, wants = true WHERE id = 66");
	is($is_in_now->('v@example.com'), 0, "$name: nor does it take back the no that it said before");
	$node->safe_psql('postgres', "ALTER SERVER $account OPTIONS (DROP new_contacts)") if $name eq 'campaignlark';

	# null says nothing, whatever becomes of the contact in between
	$settle->("INSERT INTO $name VALUES (50, 'f\@example.com', true, 'F'), (51, 'h\@example.com', NULL, 'H')");
	$opt_out->('f@example.com');
	$settle->("UPDATE $name SET wants = NULL WHERE id = 50");
	sql("SELECT contactsync_unwatch('$name', '$account'); DROP SERVER $account CASCADE");
	create_server($node, $sandbox, $name, account => $account, role => 'shop', server => { pace => 500, burst => 50 });
	sql(qq{SELECT contactsync_watch('$name', '$account', '{"email": "email", "opt_in": "wants", "first_name": "first_name"}')});
	$settle->("SELECT contactsync_import('$name', '$account', automations => 'accepted')");
	$settle->("UPDATE $name SET wants = true WHERE id IN (50, 51)");
	is($is_in_now->('f@example.com'), 0, "$name: true, null and true again is no word, also with another server in between");
	is($is_in_now->('h@example.com'), 1, "$name: null and true is one");

	# a no that becomes true together with the key is a word, also of somebody who was forgotten before that no
	$settle->("INSERT INTO $name VALUES (130, 't\@example.com', true, 'T')");
	sql("SELECT contactsync_forget('t\@example.com')");
	$settle->("UPDATE $name SET wants = false WHERE id = 130");
	$settle->("UPDATE $name SET id = 140, wants = true WHERE id = 130");
	is($is_in_now->('t@example.com'), 1, "$name: a no that becomes true together with the key is, also after contactsync_forget()");

	# another row of somebody who left and was forgotten is refused; to try it again is no word
	$settle->("INSERT INTO $name VALUES (145, 'y\@example.com', true, 'Y')");
	$opt_out->('y@example.com');
	sql("SELECT contactsync_forget('y\@example.com')");
	$sandbox->fault($name, { match => { account => $account, method => 'POST' }, times => 100, action => { status => 400, body => { error => 'bad' } } });
	$settle->("INSERT INTO $name VALUES (146, 'y\@example.com', true, 'Y2')");
	$sandbox->clear_faults($name);
	is(sql("SELECT contactsync_retry('$account')"), 1, "$name: a row of somebody who was forgotten is a failure");
	$settle->('SELECT 1');
	is(sql("SELECT count(*) FROM contactsync.failures WHERE server = '$account'"), 0, "$name: it is tried again");
	is($is_in_now->('y@example.com'), 0, "$name: which is no word");

	# a no whose answer is lost, of somebody who was forgotten, was said all the same
	$settle->("INSERT INTO $name VALUES (150, 'x\@example.com', true, 'U')");
	sql("SELECT contactsync_forget('x\@example.com')");
	$sandbox->fault($name, { match => { account => $account, method => 'POST' }, times => 100, effect => 'after', action => { stall => \1 } });
	sql("UPDATE $name SET wants = false WHERE id = 150");
	wait_for('the no', sub { !$is_in_now->('x@example.com') });
	sql("SELECT contactsync_pause('$account')");
	crash_worker($node, 'postgres');
	sql("UPDATE $name SET wants = true WHERE id = 150");
	$sandbox->clear_faults($name);
	$settle->("SELECT contactsync_resume('$account')");
	is($is_in_now->('x@example.com'), 1, "$name: so is one whose no was lost in a crash");

	# of two rows that get other keys, one says yes anew, in whatever order they are read
	foreach my $case ([ 170, 171 ], [ 171, 170 ], [ 170, 171, 'before' ])
	{
		my ($no, $yes, $before) = @$case;
		my $which = $before ? '= 160' : 'IN (170, 171)';
		my $change = $before ? "UPDATE $name SET id = id - 10 WHERE id IN (170, 171); CALL contactsync_wait('$account'); " : '';

		$settle->("DELETE FROM $name WHERE email = 'y\@example.com'; INSERT INTO $name VALUES ($no, 'y\@example.com', NULL, 'V'), ($yes, 'y\@example.com', true, 'V')");
		$settle->("UPDATE $name SET wants = false, first_name = 'W' WHERE id = $no");
		is($is_in_now->('y@example.com'), 0, "$name: one of two rows says no");
		$settle->($change . "UPDATE $name SET id = id + 20, wants = true WHERE id $which");
		is($is_in_now->('y@example.com'), 1, "$name: if it says yes, together with both keys, that is a word" . ($before ? ', also if they changed before' : " ($no)"));
	}

	# rows of one transaction that are read one after the other
	sql("ALTER SERVER $account OPTIONS (ADD concurrency '1', ADD batch_size '1')");
	$settle->("INSERT INTO $name VALUES (80, 'p\@example.com', true, 'F'), (81, 'q\@example.com', true, 'G')");
	$settle->("UPDATE $name SET wants = false WHERE id IN (80, 81)");
	$settle->("UPDATE $name SET id = id + 10, wants = true WHERE id IN (80, 81)");
	is($is_in_now->('p@example.com') . $is_in_now->('q@example.com'), 11, "$name: so it is if one row is read at a time");

	# ... and if some of several rows are read together
	foreach my $together (1 .. 4)
	{
		sql("ALTER SERVER $account OPTIONS (SET concurrency '$together')");
		foreach my $order ([ 280, 281 ], [ 281, 280 ])
		{
			$settle->("DELETE FROM $name WHERE email = 'z\@example.com'; INSERT INTO $name VALUES (280, 'z\@example.com', NULL, 'Y'), (281, 'z\@example.com', true, 'Z')");
			$settle->("UPDATE $name SET wants = false WHERE id = 280");
			is($is_in_now->('z@example.com'), 0, "$name: one of two rows says no");
			$settle->('BEGIN; ' . join('', map { "UPDATE $name SET id = id + 10, wants = true WHERE id = $_; " } @$order) . 'COMMIT');
			is($is_in_now->('z@example.com'), 1, "$name: a word together with the keys of two rows is one, if $together are read at a time ($order->[0])");
		}
	}
	sql("ALTER SERVER $account OPTIONS (SET concurrency '1')");

	# a row of somebody who was forgotten gets another key, and another row with no word goes
	$settle->("INSERT INTO $name VALUES (110, 's\@example.com', true, 'S')");
	sql("SELECT contactsync_forget('s\@example.com')");
	$opt_out->('s@example.com');
	$settle->("INSERT INTO $name VALUES (111, 's\@example.com', NULL, 'T')");
	$settle->("UPDATE $name SET id = id + 10 WHERE id IN (110, 111)");
	is($is_in_now->('s@example.com'), 0, "$name: a key is no word of somebody who was forgotten");

	# claims => 'all' does not claim what a row says no to
	$settle->("INSERT INTO $name VALUES (95, 'r\@example.com', true, 'R'), (96, 'r\@example.com', NULL, 'R')");
	$settle->("UPDATE $name SET wants = false WHERE id = 96");
	$settle->("UPDATE $name SET first_name = 'S' WHERE id = 95");
	$settle->("SELECT contactsync_reconcile('$name', '$account', claims => 'all', automations => 'accepted')");
	is($is_in_now->('r@example.com'), 0, "$name: claims => 'all' does not claim what a row says no to");
	$settle->("INSERT INTO $name VALUES (97, 'q\@example.com', true, 'Q')");
	$settle->(qq{SELECT contactsync_upsert('$account', '{"email": "q\@example.com", "opt_in": false}')});
	$settle->("SELECT contactsync_reconcile('$name', '$account', claims => 'all', automations => 'accepted')");
	is($is_in_now->('q@example.com'), 0, "$name: ... nor what contactsync_upsert() says no to");

	# a change that was not captured
	$settle->("INSERT INTO $name VALUES (98, 'missed\@example.com', false, 'M')");
	$node->safe_psql('postgres', "SET session_replication_role = replica; UPDATE $name SET wants = true WHERE id = 98");
	$settle->("SELECT contactsync_reconcile('$name', '$account', automations => 'accepted')");
	is($is_in_now->('missed@example.com'), 0, "$name: what a reconciliation finds is no word");
}

# a newer opt_in_at of a row that is read after another row of the address was sent
create_server($node, $sandbox, 'campaignlark', account => 'times', role => 'shop', server => { pace => 500, burst => 50 });
sql(qq{
	CREATE TABLE $_ (id int PRIMARY KEY, email text, wants boolean, name text, at timestamptz);
	SELECT contactsync_watch('$_', 'times', '{"email": "email", "opt_in": "wants", "first_name": "name", "opt_in_at": "at"}')}) foreach qw(early late);
sql(q{
	INSERT INTO early SELECT n, n || '@example.com', true, 'A' FROM generate_series(1, 3) n;
	CALL contactsync_wait('times');
	INSERT INTO late SELECT n, n || '@example.com', true, 'B' FROM generate_series(1, 3) n;
	CALL contactsync_wait('times');
	UPDATE late SET wants = false WHERE id = 3;
	CALL contactsync_wait('times')});
$sandbox->call('POST', 'campaignlark/people', { account => 'times', email => "$_\@example.com", act => 'opt_out' }) foreach 1 .. 3;

sub status_of { my ($contact) = grep { $_->{email_address} eq "$_[0]\@example.com" } @{ $sandbox->contacts('campaignlark', account => 'times') }; return "$contact->{status} $contact->{fields}{first_name}"; }

sql(q{
	SELECT contactsync_pause('early', 'times');
	UPDATE early SET at = clock_timestamp();
	UPDATE late SET name = 'C', wants = wants AND id <> 2});
wait_for('the other rows to be sent', sub { (grep { status_of($_) =~ / C$/ } 1 .. 3) == 3 });
sql(q{SELECT contactsync_resume('early', 'times'); CALL contactsync_wait('times')});
is(status_of(1), 'SUBSCRIBED C', 'a newer opt_in_at is a word, although another row was sent since, whose values stay');
like(status_of(2), qr/^UNSUBSCRIBED/, '... but not if that one says no since');
is(status_of(3), 'SUBSCRIBED C', '... it is if that one said no before');
$sandbox->call('POST', 'campaignlark/people', { account => 'times', email => '1@example.com', act => 'opt_out' });
sql(q{UPDATE early SET name = 'D' WHERE id = 1; CALL contactsync_wait('times')});
is(status_of(1), 'UNSUBSCRIBED D', 'the same opt_in_at with other values is no word');
sql(q{SELECT count(*) FROM contactsync_forget('1@example.com'); UPDATE early SET name = 'E' WHERE id = 1; CALL contactsync_wait('times')});
is(status_of(1), 'UNSUBSCRIBED E', 'nor is any of somebody who was forgotten');

# at MailingCore a contact that is found by an external id keeps it when its address changes; an address has one contact
create_server($node, $sandbox, 'mailingcore', account => 'heirs', role => 'shop', server => { pace => 500, burst => 50 });
sql(q{
	CREATE TABLE heirs (id int PRIMARY KEY, email text, wants boolean);
	SELECT contactsync_watch('heirs', 'heirs', '{"email": "email", "opt_in": "wants", "external_id": "id"}')});

sub settle { return sql("$_[0]; CALL contactsync_wait('heirs')"); }

# The contacts as "1:a in, 2:b out".
sub heirs
{
	return join(', ', map { "$_->{externalId}:" . $_->{email} =~ s/\@.*//r . ($_->{optIn} ? ' in' : ' out') }
		  sort { $a->{externalId} <=> $b->{externalId} } @{ $sandbox->contacts('mailingcore', account => 'heirs') });
}

foreach my $pull ('', q{; SELECT contactsync_pull('heirs')})
{
	my ($one, $two, @to) = $pull ? (3, 4, 'k', 'l', 'm') : (1, 2, 'h', 'i', 'j');

	settle("INSERT INTO heirs VALUES ($one, '$to[0]\@example.com', true)");
	settle("INSERT INTO heirs VALUES ($two, '$to[0]\@example.com', true)");
	settle("UPDATE heirs SET email = '$to[1]\@example.com' WHERE id = $one");
	settle(q{SELECT contactsync_retry('heirs')} . $pull);
	like(heirs(), qr/$one:$to[1] in, $two:$to[0] out$/, 'consent of an address is not claimed again for the contact that has it next' . ($pull && ', also if it is listed'));
	settle("UPDATE heirs SET email = '$to[2]\@example.com' WHERE id = $two");
	like(heirs(), qr/$one:$to[1] in, $two:$to[2] in$/, '... but when that one gets an address that nobody has had');
}
$sandbox->call('POST', 'mailingcore/people', { account => 'heirs', email => 'i@example.com', act => 'opt_out' });
settle(q{UPDATE heirs SET email = 'n@example.com' WHERE id = 1});
like(heirs(), qr/^1:n out, 2:j in,/, 'a contact that carried its own consent may have opted out since, and gets none with another address');
# an external id: a lost call, an address that another one had
create_server($node, $sandbox, 'mailingcore', account => 'ids', role => 'shop', server => { pace => 500, burst => 50 });
sql(q{
	CREATE TABLE ids (id int PRIMARY KEY, customer text, email text, wants boolean);
	SELECT contactsync_watch('ids', 'ids', '{"email": "email", "external_id": "customer", "opt_in": "wants"}', on_delete => 'unsubscribe', delete_delay => '0')});

sub ids
{
	my ($sql) = @_;

	sql("$sql; CALL contactsync_wait('ids')");
	return;
}

sub has_joined
{
	my ($email) = @_;

	return join(',', map { $_->{optIn} ? 1 : 0 } grep { $_->{email} eq $email } @{ $sandbox->contacts('mailingcore', account => 'ids') });
}

sub claims_of
{
	my ($email) = @_;

	return scalar grep { ($_->{body} // '') =~ /"$email"[^}]*"optIn":true/ } @{ $sandbox->journal('mailingcore', account => 'ids') };
}

# an address that said yes under one external id is taken by a row of another one that says null
ids(q{INSERT INTO ids VALUES (1, 'c1', 'p@example.com', true), (2, 'c2', 'q@example.com', NULL)});
is(has_joined('p@example.com'), 1, 'external ids: yes arrives');
ids(q{UPDATE ids SET email = 'r@example.com' WHERE id = 1});
$sandbox->call('POST', 'mailingcore/people', { account => 'ids', email => 'p@example.com', act => 'opt_out' });
ids(q{UPDATE ids SET email = 'p@example.com' WHERE id = 2});
ids(q{UPDATE ids SET wants = true WHERE id = 2});
is(has_joined('p@example.com'), 0, 'external ids: true, null and true again of an address is no word, whichever id it has');
ids(q{UPDATE ids SET wants = false WHERE id = 2});
ids(q{UPDATE ids SET wants = true WHERE id = 2});
is(has_joined('p@example.com'), 1, 'external ids: from no to yes it is');

# a new row of an id takes an address that said yes under another id
ids(q{INSERT INTO ids VALUES (3, 'c3', 's@example.com', true), (4, 'c4', 't@example.com', NULL)});
ids(q{UPDATE ids SET email = 'u@example.com' WHERE id = 3});
ids(q{INSERT INTO ids VALUES (5, 'c4', 's@example.com', true)});
is(has_joined('s@example.com'), 0, 'external ids: nor is a row of an id that said null at another address');

# several rows of one id: consent was given for an address, and does not pass to another one that says null or left
ids(q{INSERT INTO ids VALUES (9, 'c9', 'w1@example.com', NULL)});
ids(q{INSERT INTO ids VALUES (10, 'c9', 'w2@example.com', true)});
is(has_joined('w2@example.com'), 1, 'external ids: a second row says yes for another address');
ids(q{DELETE FROM ids WHERE id = 10});
is(has_joined('w1@example.com'), 0, 'external ids: the consent does not pass to the address of the row that says null');
ids(q{INSERT INTO ids VALUES (11, 'c11', 'w3@example.com', true), (12, 'c12', 'w4@example.com', true)});
$sandbox->call('POST', 'mailingcore/people', { account => 'ids', email => 'w3@example.com', act => 'opt_out' });
sql(q{SELECT contactsync_pull('ids')});
ids(q{UPDATE ids SET email = 'w5@example.com' WHERE id = 11});
ids(q{UPDATE ids SET email = 'w3@example.com' WHERE id = 12});
is(has_joined('w3@example.com'), 0, 'external ids: nor to an address whose person has left');
ids(q{INSERT INTO ids VALUES (13, 'c13', 'w6@example.com', NULL)});
$sandbox->call('POST', 'mailingcore/people', { account => 'ids', email => 'w6@example.com', act => 'opt_in' });
ids(q{UPDATE ids SET email = 'w7@example.com' WHERE id = 13});
is(has_joined('w7@example.com'), 0, 'external ids: nor does the one that a person gave at the provider');

# two rows of one id, of which one says no, and the other changes before and after that, and is sent with its last values first
ids(q{INSERT INTO ids VALUES (20, 'c20', 'late1@example.com', true)});
ids(q{INSERT INTO ids VALUES (21, 'c20', 'late2@example.com', true)});
sql(q{SELECT contactsync_pause('ids')});
sql($_) foreach q{UPDATE ids SET email = 'late3@example.com' WHERE id = 21}, q{UPDATE ids SET wants = false WHERE id = 20}, q{UPDATE ids SET email = 'late4@example.com' WHERE id = 21};
ids(q{SELECT contactsync_resume('ids')});
is(join(' ', map { "$_->{email} " . ($_->{optIn} ? 'in' : 'out') } grep { $_->{externalId} eq 'c20' } @{ $sandbox->contacts('mailingcore', account => 'ids') }),
	'late4@example.com out', 'external ids: the no of a row does not give its address to the contact that another row spoke for since');

# a contact moves on from an address that was claimed, its row says no and goes, and a new row has the first address
ids(q{INSERT INTO ids VALUES (30, 'c30', 'x1@example.com', true)});
ids(q{UPDATE ids SET email = 'x2@example.com' WHERE id = 30});
ids(q{UPDATE ids SET wants = false WHERE id = 30});
sql(q{SELECT contactsync_pause('ids')});
sql($_) foreach q{DELETE FROM ids WHERE id = 30}, q{INSERT INTO ids VALUES (31, 'c30', 'x1@example.com', true)};
ids(q{SELECT contactsync_resume('ids')});
is(claims_of('x1@example.com'), 1, 'external ids: that a row leaves which said no at another address makes no word');

# ... although it said so when it got that address, and the call was lost
ids(q{INSERT INTO ids VALUES (32, 'c32', 'y1@example.com', true)});
$sandbox->fault('mailingcore', { match => { account => 'ids' }, effect => 'after', action => { status => 500 } });
ids(q{UPDATE ids SET email = 'y2@example.com', wants = false WHERE id = 32});
is(has_joined('y2@example.com'), 0, 'external ids: a no that comes with an address arrives, although the first call was lost');
sql(q{SELECT contactsync_pause('ids')});
sql($_) foreach q{DELETE FROM ids WHERE id = 32}, q{INSERT INTO ids VALUES (33, 'c32', 'y1@example.com', true)};
ids(q{SELECT contactsync_resume('ids')});
is(claims_of('y1@example.com'), 1, 'external ids: ... and makes no word of the address that it left');

# a word whose answer is lost, with its row: another row does not repeat it
ids(q{INSERT INTO ids VALUES (6, NULL, 'v@example.com', false)});
ids(q{DELETE FROM ids WHERE id = 6});
$sandbox->fault('mailingcore', { match => { account => 'ids' }, times => 1, effect => 'after', action => { stall => \1 } });
sql(q{INSERT INTO ids VALUES (7, 'c7', 'v@example.com', true)});
wait_for('the word', sub { claims_of('v@example.com') == 1 });
sql(q{SELECT contactsync_pause('ids')});
crash_worker($node, 'postgres');
sql(q{DELETE FROM ids WHERE id = 7; INSERT INTO ids VALUES (8, 'c7', 'v@example.com', true)});
$sandbox->clear_faults('mailingcore');
ids(q{SELECT contactsync_resume('ids')});
is(claims_of('v@example.com'), 1, 'external ids: a word whose answer was lost is not repeated by another row');

$node->stop;
done_testing();
