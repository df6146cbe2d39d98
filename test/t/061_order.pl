# Two calls for the same contact are never in flight at the same time, and an older value never follows a newer one.

use strict;
use warnings;

use ContactSync;
use Test::More;

# memory that is freed has other contents then, and is no more to be used
$ENV{MALLOC_PERTURB_} = 165;

my $sandbox = start_sandbox(clock_speed => 20);
my $node = start_node('contactsync.clock_speed' => 20, 'contactsync.max_pending' => 1000, 'restart_after_crash' => 'on');

create_server($node, $sandbox, 'mailingcore', account => 'bulk', server => { pace => 1000, burst => 1000, timeout => '1h', batch_size => 10, concurrency => 8 });
create_server($node, $sandbox, 'campaignlark', account => 'single', server => { pace => 1000, burst => 1000, timeout => '1h', concurrency => 16 });
$node->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id int PRIMARY KEY, email text NOT NULL, version int NOT NULL DEFAULT 1, consent boolean NOT NULL DEFAULT false);
	SELECT contactsync_watch('customers', 'bulk', '{"email": "email", "external_id": "id", "attributes": {"points": "version"}}');
	SELECT contactsync_watch('customers', 'single', '{"email": "email", "opt_in": "consent", "attributes": {"points": "version"}}');
	INSERT INTO customers SELECT g, format('c%s@example.com', g) FROM generate_series(1, 40) g;
	CALL contactsync_wait('bulk');
	CALL contactsync_wait('single');
});

# Return the versions of a contact in the order in which they were sent.
sub versions
{
	my ($provider, $email, $since) = @_;

	return join(',',
		map { $_->{body} =~ /"\Q$email\E".*?"points":(\d+)/ } grep { $_->{seq} > ($since // 0) } @{ $sandbox->journal($provider) });
}

sub last_seq { my ($provider) = @_; return $sandbox->journal($provider)->[-1]{seq}; }

sub deliver { $node->safe_psql('postgres', q{CALL contactsync_wait('bulk'); CALL contactsync_wait('single')}); return; }

# a newer value arrives while the older one is in flight
foreach my $provider ('mailingcore', 'campaignlark')
{
	my $since = last_seq($provider);
	my $set = 'UPDATE customers SET version = version + 1 WHERE id = 1';

	$sandbox->fault($provider, { match => { email => 'c1@example.com' }, action => { stall => \1 } });
	$node->safe_psql('postgres', $set);
	$sandbox->wait_for_journal($provider, sub { $_[-1]{seq} > $since && $_[-1]{in_flight} });
	my ($version) = versions($provider, 'c1@example.com', $since);
	$node->safe_psql('postgres', $set) foreach 1 .. 3;
	$node->safe_psql('postgres', q{UPDATE customers SET version = version + 1 WHERE id = 2});
	$sandbox->wait_for_journal($provider, sub { grep { $_->{seq} > $since && grep { $_ eq 'c2@example.com' } @{ $_->{keys} } } @_ });
	is(versions($provider, 'c1@example.com', $since), $version, "$provider: newer values of the contact wait, other contacts do not");
	$sandbox->clear_faults($provider);
	deliver();
	is(versions($provider, 'c1@example.com', $since), join(',', $version, $version + 3), 'only the newest value follows');
}

# the older call has to be repeated: it is not, because there is a newer value
foreach my $case ([ 'a lost answer', 'after', { status => 500 } ], [ 'a lost connection', 'after', { reset => 'inside' } ],
	[ 'a refusal to serve', 'before', { status => 503 } ], [ 'a throttle', 'before', { status => 429, retry_after => 3 } ])
{
	my ($title, $effect, $action) = @$case;

	foreach my $provider ('mailingcore', 'campaignlark')
	{
		my $since = last_seq($provider);

		$sandbox->fault($provider, { match => { email => 'c3@example.com' }, effect => $effect, action => { %$action, stall => \1 } });
		$node->safe_psql('postgres', q{UPDATE customers SET version = version + 1 WHERE id = 3});
		$sandbox->wait_for_journal($provider, sub { $_[-1]{seq} > $since });
		my ($version) = versions($provider, 'c3@example.com', $since);
		$node->safe_psql('postgres', q{UPDATE customers SET version = version + 1 WHERE id = 3});
		$sandbox->clear_faults($provider);
		deliver();
		is(versions($provider, 'c3@example.com', $since), join(',', $version, $version + 1), "$provider: $title");
	}
}

# everything at once: many updates, calls that are held until several are in flight, slow answers, and all kinds of failures
my $since = { map { $_ => last_seq($_) } 'mailingcore', 'campaignlark' };

$sandbox->fault($_, { times => undef, action => { stall => \1 } }) foreach 'mailingcore', 'campaignlark';
my $updates = join(';', map { "UPDATE customers SET version = version + 1 WHERE id % 7 = $_ % 7 OR id = $_ % 40" } 1 .. 300);
$node->safe_psql('postgres', $updates);
foreach my $provider ('mailingcore', 'campaignlark')
{
	my $n = 0;

	$sandbox->wait_for_journal($provider, sub { 2 < grep { $_->{in_flight} } @_ });
	$sandbox->clear_faults($provider);
	foreach my $action ({ status => 500 }, { reset => 'inside' }, { status => 429, retry_after => 1 }, { truncate => \1 }, { status => 503 })
	{
		foreach my $effect ('before', 'after')
		{
			$sandbox->fault($provider, { match => { nth => 3 + 2 * $n++ }, effect => $effect, action => { %$action, latency => 1 } });
		}
	}
	$sandbox->fault($provider, { times => undef, action => { latency => 0.4 } });
}
$node->safe_psql('postgres', $updates);
deliver();

my $expected = $node->safe_psql('postgres', q{SELECT string_agg(version::text, ',' ORDER BY id) FROM customers});
is( join(',', map { $_->{attributes}{points} } sort { $a->{externalId} <=> $b->{externalId} } @{ $sandbox->contacts('mailingcore', account => 'bulk') }),
	$expected, 'MailingCore ends with the newest values');
is( join(',',
		map { $_->{fields}{points} }
		sort { ($a->{email_address} =~ /(\d+)/)[0] <=> ($b->{email_address} =~ /(\d+)/)[0] }
		  @{ $sandbox->contacts('campaignlark', account => 'single') }),
	$expected, 'and so does CampaignLark');

foreach my $provider ('mailingcore', 'campaignlark')
{
	my (%until, %version, @overlap, @backward);
	my @calls = grep { $_->{seq} > $since->{$provider} } @{ $sandbox->journal($provider) };

	foreach my $call (@calls)
	{
		while ($call->{body} =~ /"(c\d+\@example.com)".*?"points":(\d+)/g)
		{
			push @overlap, "$1 in call $call->{seq}" if ($until{$1} // 0) > $call->{monotonic};
			push @backward, "$1: $2 after $version{$1}" if ($version{$1} // 0) > $2;
			$until{$1} = $call->{monotonic} + $call->{duration};
			$version{$1} = $2;
		}
	}
	is_deeply(\@overlap, [], "$provider: no two of the calls in flight concern the same contact");
	is_deeply(\@backward, [], 'no value is older than one sent before');
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM contactsync.failures'), '0', 'no contact fails');

# a row says no between two changes of another, and changes again while that is in flight: the worker survives what it sends next
my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'};
my $pid = $node->safe_psql('postgres', $worker);
$node->safe_psql('postgres', q{INSERT INTO customers VALUES (101, 'twins@example.com', 1, true), (102, 'twins@example.com', 1, true)});
deliver();
foreach my $round (1 .. 3)
{
	my $last = last_seq('campaignlark');
	my $is_no = sub { $_[0]{seq} > $last && $_[0]{body} =~ /twins.*UNSUBSCRIBED/ };

	$node->safe_psql('postgres', $_) foreach q{SELECT contactsync_pause('single')}, q{UPDATE customers SET version = version + 1 WHERE id = 101},
		q{UPDATE customers SET consent = false WHERE id = 102}, q{UPDATE customers SET version = version + 1 WHERE id <> 102};
	$sandbox->fault('campaignlark', { match => { email => 'twins@example.com', nth => 2 }, action => { stall => \1 } });
	$node->safe_psql('postgres', q{SELECT contactsync_resume('single')});
	$sandbox->wait_for_journal('campaignlark', sub { grep { $is_no->($_) && $_->{in_flight} } @_ });
	$node->safe_psql('postgres', q{UPDATE customers SET version = version + 1 WHERE id = 102});
	$sandbox->clear_faults('campaignlark');
	deliver();
	$node->safe_psql('postgres', q{UPDATE customers SET consent = true WHERE id = 102});
	deliver();
}
is($node->safe_psql('postgres', $worker), $pid, 'the worker survives that the row changes again meanwhile');

# a row cannot be read for a while, and another row of its contact changes after it: that one has the last word
create_server($node, $sandbox, 'campaignlark', account => 'held', server => { pace => 1000, burst => 1000, timeout => '1h' });
$node->safe_psql(
	'postgres', q{
	CREATE TABLE held (id int);
	CREATE FUNCTION read(row_id int, name text) RETURNS text LANGUAGE plpgsql STABLE AS $$
		BEGIN
			IF EXISTS (SELECT FROM public.held WHERE id = row_id) THEN RAISE lock_not_available; END IF;
			RETURN name;
		END $$;
	CREATE TABLE people (id int PRIMARY KEY, email text NOT NULL DEFAULT 'one@example.com', name text, consent boolean);
	SELECT contactsync_watch('people', 'held', '{"email": "email", "first_name": "public.read(id, name)", "opt_in": "consent"}');
	INSERT INTO people VALUES (1, DEFAULT, 'Ann', true);
	CALL contactsync_wait('held');
	INSERT INTO people VALUES (2, DEFAULT, 'Bea', true);
	CALL contactsync_wait('held')});

sub at_held
{
	my ($contact) = grep { $_->{email_address} eq 'one@example.com' } @{ $sandbox->contacts('campaignlark', account => 'held') };

	return "$contact->{fields}{first_name} $contact->{status}";
}

# Change row 1 while it cannot be read, then row 2, and when that has its outcome perhaps row 1 again; then let row 1 be read.
sub hold_row
{
	my ($first, $second, $third) = @_;

	$node->safe_psql('postgres', $_)
	  foreach 'INSERT INTO held VALUES (1)', "UPDATE people SET $first WHERE id = 1", "UPDATE people SET $second WHERE id = 2";
	$node->poll_query_until('postgres', q{SELECT array_agg(key) = '{1}' FROM contactsync.changes WHERE server = 'held'})
	  or die "timed out waiting for: $second";
	$node->safe_psql('postgres', "UPDATE people SET $third WHERE id = 1") if $third;
	$node->safe_psql('postgres', q{DELETE FROM held; CALL contactsync_wait('held')});
	return;
}

hold_row(q{name = 'Ann2'}, q{name = 'Bea2'});
is(at_held(), 'Bea2 SUBSCRIBED', 'a row that could not be read overwrites no other that has changed since');
hold_row(q{name = 'Ann3'}, q{name = 'Bea3'}, q{name = 'Ann4'});
is(at_held(), 'Ann4 SUBSCRIBED', 'unless it has changed again');
hold_row(q{name = 'Ann5', consent = false}, q{name = 'Bea5'});
is(at_held(), 'Bea5 UNSUBSCRIBED', 'its no is sent, and no other value of it');
hold_row(q{name = 'Ann6', consent = true}, q{name = 'Bea6', consent = false});
is(at_held(), 'Bea6 UNSUBSCRIBED', 'a word of it is none after the no of the other one');
$node->safe_psql('postgres', q{UPDATE people SET consent = true, name = 'Bea7' WHERE id = 2; CALL contactsync_wait('held')});
is(at_held(), 'Bea7 SUBSCRIBED', 'a later word is claimed');

# while a row's call is in flight, another row of the contact changes to what that had before: this is the last word
$sandbox->fault('campaignlark', { match => { account => 'held', email => 'one@example.com' }, action => { stall => \1 } });
my $last = last_seq('campaignlark');
$node->safe_psql('postgres', q{UPDATE people SET name = 'Bea8' WHERE id = 2});
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{seq} > $last && $_[-1]{in_flight} });
$node->safe_psql('postgres', $_)
  foreach q{UPDATE people SET name = 'Bea7' WHERE id = 1}, q{INSERT INTO people VALUES (3, 'next@example.com', 'Next', true)};
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{body} =~ /next\@example/ });
$sandbox->clear_faults('campaignlark');
$node->safe_psql('postgres', q{CALL contactsync_wait('held')});
is(at_held(), 'Bea7 SUBSCRIBED', 'a row that changes to what the contact had is not unchanged while another row has a call in flight');

# a row waits, without a lock, for the opposite word of its transaction, which cannot be read; another row changes meanwhile
sub until_left
{
	my (@keys) = @_;
	my $keys = join(',', @keys);

	$node->poll_query_until('postgres', qq{SELECT string_agg(DISTINCT key, ',' ORDER BY key) = '$keys' FROM contactsync.changes WHERE server = 'held'})
	  or die "timed out waiting for all but $keys";
	return;
}

$node->safe_psql('postgres', q{INSERT INTO people VALUES (4, DEFAULT, 'Cyd', true); CALL contactsync_wait('held')});
$node->safe_psql('postgres', q{UPDATE people SET consent = false WHERE id = 1; CALL contactsync_wait('held')});
is(at_held(), 'Bea7 UNSUBSCRIBED', 'a no of a row that did not speak');
$node->safe_psql('postgres', q{
	INSERT INTO held VALUES (2);
	BEGIN;
	UPDATE people SET name = 'Ann9', consent = true WHERE id = 1;
	UPDATE people SET consent = false WHERE id = 2;
	COMMIT;
	UPDATE people SET name = 'Cyd2' WHERE id = 4});
until_left(1, 2);
is(at_held(), 'Cyd2 UNSUBSCRIBED', 'a word waits for another row of its transaction that cannot be read, and a third row does not');
$node->safe_psql('postgres', q{DELETE FROM held; CALL contactsync_wait('held')});
is(at_held(), 'Cyd2 UNSUBSCRIBED', 'the word is none then, and its row overwrites no other that has changed since');

# a row turns to true while it cannot be read, and another one changes after it: the word is claimed, and the other one speaks
sub claims_at_held { return scalar grep { $_->{seq} > $_[0] && $_->{body} =~ /"SUBSCRIBED"/ } @{ $sandbox->journal('campaignlark', account => 'held') }; }

$node->safe_psql('postgres', q{UPDATE people SET consent = true; CALL contactsync_wait('held')});
$node->safe_psql('postgres', q{UPDATE people SET consent = false WHERE id = 1; CALL contactsync_wait('held')});
is(at_held(), 'Ann9 UNSUBSCRIBED', 'a no, after which the others say nothing');
hold_row(q{name = 'Ann12', consent = true}, q{name = 'Bea12'});
is(at_held(), 'Bea12 SUBSCRIBED', 'a word is claimed that is older than what another row said, and no other value of its row is sent over that');
$node->safe_psql('postgres', q{UPDATE people SET consent = false; CALL contactsync_wait('held')});
is(at_held(), 'Bea12 UNSUBSCRIBED', 'all say no');
$last = last_seq('campaignlark');
hold_row(q{name = 'Ann13', consent = true}, q{name = 'Bea13', consent = true});
is(at_held(), 'Bea13 SUBSCRIBED', 'of two words the later one speaks');
is(claims_at_held($last), 1, '... and one is claimed');

# Row 2 newly says no, in a transaction that changes row 1 as well, which said so before and cannot be read; then both say yes.
sub refuse_together
{
	my ($name) = @_;

	$node->safe_psql('postgres', $_) foreach q{UPDATE people SET consent = (id <> 1); CALL contactsync_wait('held')}, 'INSERT INTO held VALUES (1)',
	  qq{UPDATE people SET consent = false, name = '$name' WHERE id IN (1, 2)};
	$node->poll_query_until('postgres', q{SELECT s.opt_in = 'f' FROM contactsync.source_row s JOIN contactsync.endpoint e ON e.id = s.endpoint WHERE server = 'held' AND key = '2'})
	  or die 'timed out waiting for the no';
	is(at_held(), "$name UNSUBSCRIBED", 'a no, of which another row of its transaction has not been read');
	return;
}

refuse_together('Dee');
$node->safe_psql('postgres', $_) foreach q{BEGIN; UPDATE people SET consent = true WHERE id = 2; UPDATE people SET consent = true WHERE id = 1; COMMIT},
  # which is read after row 2
  q{INSERT INTO people VALUES (5, 'after@example.com', 'Aft', true)};
until_left(1, 2);
$node->safe_psql('postgres', q{DELETE FROM held; CALL contactsync_wait('held')});
is(at_held(), 'Dee SUBSCRIBED', 'a row that says yes with another one has not said no with it, although that was changed when it did');

refuse_together('Eli');
$node->safe_psql('postgres', $_)
  foreach 'UPDATE people SET consent = true WHERE id = 1', 'INSERT INTO held VALUES (2)', 'UPDATE people SET consent = true WHERE id = 2',
  q{UPDATE people SET name = 'Eli2' WHERE id = 1}, 'DELETE FROM held WHERE id = 1';
until_left(2);
is(at_held(), 'Eli2 UNSUBSCRIBED', 'what a row says, which may have said so when another one said no, is no word');
$node->safe_psql('postgres', q{DELETE FROM held; CALL contactsync_wait('held')});
is(at_held(), 'Eli2 SUBSCRIBED', '... but that of the other one is, which came later');

# a row turns to true while it cannot be read, the person complains, and the answer to a call for another row tells of that
$node->safe_psql('postgres', $_)
  foreach q{UPDATE people SET consent = false WHERE id = 1; CALL contactsync_wait('held')}, 'INSERT INTO held VALUES (1)', 'UPDATE people SET consent = true WHERE id = 1';
$sandbox->call('POST', 'campaignlark/people', { account => 'held', email => 'one@example.com', act => 'complain' });
$node->safe_psql('postgres', q{UPDATE people SET name = 'Fay' WHERE id = 2});
until_left(1);
is(at_held(), 'Fay COMPLAINED', 'an answer tells of a complaint while a word waits');
$node->safe_psql('postgres', q{DELETE FROM held; CALL contactsync_wait('held')});
is(at_held(), 'Fay COMPLAINED', 'a word lifts no complaint of which an answer has told since it was queued');
$node->safe_psql('postgres', "UPDATE people SET consent = $_ WHERE id = 1; CALL contactsync_wait('held')") foreach 'false', 'true';
is(at_held(), 'Eli2 SUBSCRIBED', '... but a later one does');

# one contact is read at a time; what a row says that changed last is what remains, whatever was queued for others
create_server($node, $sandbox, 'campaignlark', account => 'turns', server => { pace => 1000, burst => 1000, timeout => '1h', concurrency => 1, bulk_guard => 0 });
$node->safe_psql(
	'postgres', q{
	CREATE TABLE turns (id int PRIMARY KEY, email text NOT NULL, name text, consent boolean DEFAULT true);
	SELECT contactsync_watch('turns', 'turns', '{"email": "email", "first_name": "name", "opt_in": "consent"}')});

# Commit each of these while nothing is sent, then have it sent.
sub in_turn
{
	$node->safe_psql('postgres', $_) foreach q{SELECT contactsync_pause('turns')}, @_, q{SELECT contactsync_resume('turns')}, q{CALL contactsync_wait('turns')};
	return;
}

sub name_at
{
	my ($contact) = grep { $_->{email_address} eq "$_[0]\@example.com" } @{ $sandbox->contacts('campaignlark', account => 'turns') };

	return $contact->{fields}{first_name};
}

in_turn(q{INSERT INTO turns VALUES (1, 'a@example.com', 'Ann')});
in_turn(
	q{INSERT INTO turns VALUES (2, 'a@example.com', 'Bea')},
	q{UPDATE turns SET name = name || 2 WHERE email = 'a@example.com'},
	q{UPDATE turns SET name = 'Ann3' WHERE id = 1});
is(name_at('a'), 'Ann3', 'a row that waits for what another one said in its transaction does not speak over what that says since');

# while a call for a row is in flight, the row that spoke before goes: this makes the former no newer than a third one
in_turn(q{INSERT INTO turns VALUES (11, 'b@example.com', 'Ann')});
$sandbox->fault('campaignlark', { match => { account => 'turns', email => 'b@example.com' }, effect => 'after', action => { status => 503, stall => \1 } });
$last = last_seq('campaignlark');
$node->safe_psql('postgres', q{INSERT INTO turns VALUES (12, 'b@example.com', 'Bea')});
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{seq} > $last && $_[-1]{in_flight} });
$node->safe_psql('postgres', q{ALTER SERVER turns OPTIONS (SET concurrency '2')});
$node->safe_psql('postgres', $_) foreach q{INSERT INTO turns VALUES (13, 'b@example.com', 'Cleo')}, q{DELETE FROM turns WHERE id = 11},
  q{INSERT INTO turns VALUES (14, 'c@example.com', 'Dora')};
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{body} =~ /c\@example/ });
$node->safe_psql('postgres', q{INSERT INTO turns VALUES (15, 'd@example.com', 'Eve')});
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{body} =~ /d\@example/ });
$sandbox->clear_faults('campaignlark');
$node->safe_psql('postgres', q{CALL contactsync_wait('turns'); ALTER SERVER turns OPTIONS (SET concurrency '1')});
is(name_at('b'), 'Cleo', 'a row that is to speak because another has gone is no newer for that');

# What is sent to subscribe that person from now on.
sub claims
{
	my ($name, $since) = @_;

	return scalar grep { $_->{seq} > $since && $_->{body} =~ /"$name\@example.com".*"SUBSCRIBED"/ } @{ $sandbox->journal('campaignlark', account => 'turns') };
}

# a row changes again in a part of the queue that is read later: it is sent with its last values before another row is that
# changed before
in_turn(qq{INSERT INTO turns VALUES ($_, 'n\@example.com', 'Row')}) foreach 72, 71;
in_turn(
	q{UPDATE turns SET name = 'Ann2' WHERE id = 71},
	q{UPDATE turns SET name = 'Bea2' WHERE id = 72},
	join(';', map { "INSERT INTO turns VALUES ($_, 'filler$_\@example.com')" } 2001 .. 3100),
	q{UPDATE turns SET name = 'Ann3' WHERE id = 71});
is(name_at('n'), 'Ann3', 'a row that changed last speaks, also if all it says was sent before the other one was');

# a row comes to the address of a contact and says no; while this is in flight, another row comes to it that says yes
in_turn(q{INSERT INTO turns VALUES (31, 'f@example.com', 'Ann')});
in_turn(q{DELETE FROM turns WHERE id = 31}, q{INSERT INTO turns VALUES (32, 'g@example.com', 'Bea', false)});
$node->safe_psql('postgres', q{ALTER SERVER turns OPTIONS (SET concurrency '2')});
$last = last_seq('campaignlark');
$sandbox->fault('campaignlark', { match => { account => 'turns', email => 'f@example.com' }, action => { stall => \1 } });
$node->safe_psql('postgres', q{UPDATE turns SET email = 'f@example.com' WHERE id = 32});
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{seq} > $last && $_[-1]{in_flight} });
$node->safe_psql('postgres', $_) foreach q{INSERT INTO turns VALUES (33, 'f@example.com', 'Cleo')}, q{INSERT INTO turns VALUES (34, 'h@example.com', 'Dora')};
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{body} =~ /h\@example/ });
$sandbox->clear_faults('campaignlark');
$node->safe_psql('postgres', q{CALL contactsync_wait('turns'); ALTER SERVER turns OPTIONS (SET concurrency '1')});
is(claims('f', $last), 0, 'a row is no word while one says no whose call is in flight');

# a row that says yes, of a contact that another row has unsubscribed, gets another key: what it has become is read later
in_turn(q{INSERT INTO turns VALUES (41, 'i@example.com', 'Ann')}, q{INSERT INTO turns VALUES (42, 'i@example.com', 'Bea', false)});
in_turn(q{DELETE FROM turns WHERE id = 42});
$last = last_seq('campaignlark');
in_turn(
	q{UPDATE turns SET name = 'Ann2' WHERE id = 41},
	q{INSERT INTO turns SELECT g, format('filler%s@example.com', g) FROM generate_series(1001, 1150) g},
	q{UPDATE turns SET id = 43 WHERE id = 41});
is(name_at('i'), 'Ann2', 'a row that gets another key is sent');
is(claims('i', $last), 0, '... and is no word, although what it was has gone before');

# ... or after a crash
$last = last_seq('campaignlark');
$sandbox->fault('campaignlark', { match => { account => 'turns', email => 'i@example.com' }, action => { stall => \1 } });
$node->safe_psql('postgres', q{UPDATE turns SET id = 44, name = 'Ann3' WHERE id = 43});
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{seq} > $last && $_[-1]{in_flight} });
$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM contactsync.source_row WHERE key = '43')}) or die 'timed out waiting for the old key to be gone';
flush_wal($node);
crash_worker($node, 'postgres');
$sandbox->clear_faults('campaignlark');
$node->safe_psql('postgres', q{CALL contactsync_wait('turns')});
is(name_at('i'), 'Ann3', 'it is sent again after a crash');
is(claims('i', $last), 0, '... which is no word either');

# a row that says no and a new one that says yes get other keys together, and the latter is read first
in_turn(q{INSERT INTO turns VALUES (51, 'j@example.com', 'Ann', false)});
$last = last_seq('campaignlark');
in_turn(
	q{INSERT INTO turns VALUES (52, 'j@example.com', 'Bea', true)},
	q{UPDATE turns SET name = 'Ann2' WHERE id = 51},
	q{UPDATE turns SET id = id + 10 WHERE email = 'j@example.com'});
is(claims('j', $last), 0, 'a row does not take the place of one that says no, and is only read later');

# ... also if the old key is known to have gone before the crash, and nothing has been read under the new one
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION waits(name text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(1) WHERE name = 'Waits'; RETURN name; END $$;
	SELECT contactsync_alter_watch('turns', 'turns', '{"email": "email", "first_name": "public.waits(name)", "opt_in": "consent"}')});
in_turn(q{INSERT INTO turns VALUES (571, 'k@example.com', 'Ann')}, q{INSERT INTO turns VALUES (572, 'k@example.com', 'Bea', false)});
in_turn(q{DELETE FROM turns WHERE id = 572});
$last = last_seq('campaignlark');
my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{UPDATE turns SET id = 573, name = 'Waits' WHERE id = 571});
$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM contactsync.source_row WHERE key = '571')}) or die 'timed out waiting for the old key to be gone';
flush_wal($node);
crash_worker($node, 'postgres');
$session->quit;
$node->safe_psql('postgres', q{CALL contactsync_wait('turns')});
is(name_at('k'), 'Waits', 'a row whose old key had gone before a crash is sent');
is(claims('k', $last), 0, '... which is no word');

# ... nor if the contact was withheld, because another row said no, so that there is no contact that remembers what rows said
foreach my $provider ('owlat', 'spotzee')
{
	my %options = $provider eq 'owlat' ? (topic_id => 'topicsingle000000000000000000000') : (subscription_id => 5, batch_size => 1);
	my ($account, $id) = ("withheld$provider", $provider eq 'owlat' ? '' : q{"external_id": "'id of ' || email", });
	my $settle = sub { $node->safe_psql('postgres', "$_; CALL contactsync_wait('$account')") foreach @_; return };
	my $there = sub { my ($email) = @_; return scalar grep { $_->{email} eq $email } @{ $sandbox->contacts($provider, account => $account) } };

	create_server($node, $sandbox, $provider, account => $account, server => { pace => 1000, burst => 1000, timeout => '1h', concurrency => 1, bulk_guard => 0, %options });
	$node->safe_psql(
		'postgres', qq{
		CREATE TABLE $account (id int PRIMARY KEY, email text NOT NULL, name text, consent boolean DEFAULT true);
		SELECT contactsync_watch('$account', '$account', \$\${$id"email": "email", "first_name": "public.waits(name)", "opt_in": "consent"}\$\$)});
	foreach my $crash (0, 1)
	{
		my ($row, $email) = (901 + 10 * $crash, "withheld$crash\@example.com");
		my ($other, $key) = ($row + 1, $row + 2);
		my $gone = qq{SELECT NOT EXISTS (SELECT FROM contactsync.source_row JOIN contactsync.endpoint e ON e.id = endpoint WHERE server = '$account' AND key = '$row')};

		$settle->(qq{INSERT INTO $account VALUES ($other, '$email', 'Bea', false)}, qq{INSERT INTO $account VALUES ($row, '$email', 'Ann')},
			"DELETE FROM $account WHERE id = $other");
		if ($crash)
		{
			$session = $node->background_psql('postgres', on_error_stop => 1);
			$session->query_safe('SELECT pg_advisory_lock(1)');
			$node->safe_psql('postgres', qq{UPDATE $account SET id = $key, name = 'Waits' WHERE id = $row});
			$node->poll_query_until('postgres', $gone) or die 'timed out waiting for the old key to be gone';
			flush_wal($node);
			crash_worker($node, 'postgres');
			$session->quit;
		}
		else
		{
			$node->safe_psql('postgres', $_) foreach "SELECT contactsync_pause('$account')", "UPDATE $account SET name = 'Ann2' WHERE id = $row",
			  "INSERT INTO $account SELECT g, format('filler%s\@example.com', g) FROM generate_series(1001, 1150) g",
			  "UPDATE $account SET id = $key WHERE id = $row", "SELECT contactsync_resume('$account')";
		}
		$settle->('SELECT 1');
		is($there->($email), 0, "$provider: a row of a contact that is withheld is no word under another key" . ($crash ? ', also if the old one had gone before a crash' : ', which is read later'));
		is($node->safe_psql('postgres', $gone =~ s/NOT EXISTS/EXISTS/r =~ s/'$row'/'$key' AND withheld/r), 't', '... and is withheld as well');
		$settle->("UPDATE $account SET consent = false WHERE id = $key", "UPDATE $account SET consent = true WHERE id = $key");
		is($there->($email), 1, '... until it says so anew');
	}
}

# a word that comes together with a new key is one, although it may have been sent before the worker starts
in_turn(q{INSERT INTO turns VALUES (581, 'l@example.com', 'Ann', false)});
$last = last_seq('campaignlark');
$node->safe_psql('postgres', $_) foreach q{SELECT contactsync_pause('turns')}, q{UPDATE turns SET id = 582, consent = true WHERE id = 581};
crash_worker($node, 'postgres');
$node->safe_psql('postgres', $_) foreach q{SELECT contactsync_resume('turns')}, q{CALL contactsync_wait('turns')};
is(claims('l', $last), 1, 'a word is one that comes together with a new key, and is read when the worker starts');

# ... also if the row is new, and got another key before it was read: what it was has not been read before a crash
in_turn(q{INSERT INTO turns VALUES (651, 's@example.com', 'Ann', false)}, q{INSERT INTO turns VALUES (652, 's@example.com', 'Cay', false)});
in_turn(q{DELETE FROM turns WHERE id IN (651, 652)});
$last = last_seq('campaignlark');
$node->safe_psql('postgres', $_) foreach q{SELECT contactsync_pause('turns')}, q{INSERT INTO turns VALUES (653, 's@example.com', 'Bea')},
  q{UPDATE turns SET id = 654 WHERE id = 653};
crash_worker($node, 'postgres');
$node->safe_psql('postgres', $_) foreach q{SELECT contactsync_resume('turns')}, q{CALL contactsync_wait('turns')};
is(claims('s', $last), 1, '... as is that of a new row, which has got another key before it is read');

# ... although another row gets another key, which said so before and was not heard
in_turn(q{INSERT INTO turns VALUES (661, 't@example.com', 'Ann')}, q{INSERT INTO turns VALUES (662, 't@example.com', 'Bea', false)});
$last = last_seq('campaignlark');
$node->safe_psql('postgres', $_) foreach q{SELECT contactsync_pause('turns')}, q{UPDATE turns SET id = id + 10 WHERE email = 't@example.com'},
  q{INSERT INTO turns SELECT g, format('filler%s@example.com', g) FROM generate_series(1201, 1350) g}, q{UPDATE turns SET id = 682, consent = true WHERE id = 672};
crash_worker($node, 'postgres');
$node->safe_psql('postgres', $_) foreach q{SELECT contactsync_resume('turns')}, q{CALL contactsync_wait('turns')};
is(claims('t', $last), 1, '... which is one word of two rows');

# a row that says no gets another key, in a later transaction than a row comes that says yes, and is read after that
in_turn(q{INSERT INTO turns VALUES (591, 'm@example.com', 'Ann', false)});
$last = last_seq('campaignlark');
in_turn(
	q{UPDATE turns SET name = 'Ann2' WHERE id = 591},
	q{INSERT INTO turns VALUES (592, 'm@example.com', 'Bea')},
	q{UPDATE turns SET id = 593 WHERE id = 591});
is(claims('m', $last), 0, 'nor does a row take the place of one that says no, gets another key later, and is only read then');
is_deeply(
	[map { $_->{status} } grep { $_->{email_address} eq 'm@example.com' } @{ $sandbox->contacts('campaignlark', account => 'turns') }],
	['UNSUBSCRIBED'], '... and the person remains unsubscribed');

# ... also if it has moved to another table
$node->safe_psql(
	'postgres', q{
	CREATE TABLE archive (LIKE turns INCLUDING ALL);
	SELECT contactsync_watch('archive', 'turns', '{"email": "email", "first_name": "name", "opt_in": "consent"}')});
in_turn(q{INSERT INTO turns VALUES (621, 'moved@example.com', 'Ann', false)});
$last = last_seq('campaignlark');
in_turn(
	q{UPDATE turns SET name = 'Ann2' WHERE id = 621},
	q{INSERT INTO turns VALUES (622, 'moved@example.com', 'Bea')},
	q{WITH gone AS (DELETE FROM turns WHERE id = 621 RETURNING *) INSERT INTO archive SELECT * FROM gone});
is(claims('moved', $last), 0, '... nor if that moves to another table');
$node->safe_psql('postgres', q{SELECT contactsync_unwatch('archive', 'turns')});

# ... also if its old key has gone before a crash
in_turn(q{INSERT INTO turns VALUES (611, 'o@example.com', 'Ann', false)});
$last = last_seq('campaignlark');
$session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', $_) foreach q{SELECT contactsync_pause('turns')}, q{UPDATE turns SET name = 'Ann2' WHERE id = 611}, q{INSERT INTO turns VALUES (612, 'o@example.com', 'Waits')},
  # more than is in memory at a time
  q{INSERT INTO turns SELECT g, format('filler%s@example.com', g) FROM generate_series(20001, 21500) g},
  q{UPDATE turns SET id = 613 WHERE id = 611}, q{SELECT contactsync_resume('turns')};
$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM contactsync.source_row WHERE key = '611')}) or die 'timed out waiting for the old key to be gone';
flush_wal($node);
crash_worker($node, 'postgres');
$session->quit;
$node->safe_psql('postgres', q{CALL contactsync_wait('turns')});
is(claims('o', $last), 0, '... nor if the worker is started in between');

# ... but if that one has gone, it is a word
in_turn(q{INSERT INTO turns VALUES (601, 'n@example.com', 'Ann', false)});
$last = last_seq('campaignlark');
in_turn(q{UPDATE turns SET name = 'Ann2' WHERE id = 601}, q{DELETE FROM turns WHERE id = 601}, q{INSERT INTO turns VALUES (602, 'n@example.com', 'Bea')});
is(claims('n', $last), 1, 'a row takes the place of one that said no and has gone');

# a row that could not be read is to speak, because the one has gone that changed after it and was sent meanwhile
in_turn(q{INSERT INTO turns VALUES (711, 'aa@example.com', 'Ann')}, q{INSERT INTO turns VALUES (712, 'aa@example.com', 'Bea')});
$session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{UPDATE turns SET name = 'Waits' WHERE id = 711});
$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}) or die 'timed out waiting for the reading';
$node->safe_psql('postgres', q{UPDATE turns SET name = 'Bea2' WHERE id = 712});
$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM contactsync.changes WHERE server = 'turns' AND key = '712')}) or die 'timed out waiting for the other one';
is(name_at('aa'), 'Bea2', 'a row that changed later is sent while another one cannot be read');
$node->safe_psql('postgres', q{DELETE FROM turns WHERE id = 712});
$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM contactsync.source_row WHERE key = '712')}) or die 'timed out waiting for the row to be gone';
$session->quit;
$node->safe_psql('postgres', q{CALL contactsync_wait('turns')});
is(name_at('aa'), 'Waits', '... which speaks when the former has gone');

# ... and nobody else has come to say no, whose row was read before that, and waits for its call
in_turn(q{INSERT INTO turns VALUES (691, 'v@example.com', 'Ann', false)}, q{INSERT INTO turns VALUES (692, 'u@example.com', 'Bea')});
in_turn(q{DELETE FROM turns WHERE id = 691});
$node->safe_psql('postgres', q{ALTER SERVER turns OPTIONS (SET concurrency '2')});
$last = last_seq('campaignlark');
$sandbox->fault('campaignlark', { match => { account => 'turns', email => 'u@example.com' }, action => { stall => \1 } });
$node->safe_psql('postgres', q{UPDATE turns SET name = 'Bea2' WHERE id = 692});
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{seq} > $last && $_[-1]{in_flight} });
$node->safe_psql('postgres', $_) foreach q{UPDATE turns SET email = 'v@example.com', consent = false WHERE id = 692},
  q{INSERT INTO turns VALUES (693, 'v@example.com', 'Cay')}, q{INSERT INTO turns VALUES (694, 'w@example.com', 'Dan')};
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{body} =~ /w\@example/ });
$sandbox->clear_faults('campaignlark');
$node->safe_psql('postgres', $_) foreach q{CALL contactsync_wait('turns')}, q{ALTER SERVER turns OPTIONS (SET concurrency '1')};
is(claims('v', $last), 0, 'nor does a row take the place of one that said no, while another one, which comes to say no, waits for its call');

# ... also if it was read, and waits for the call of a row that has its former address
in_turn(q{INSERT INTO turns VALUES (701, 'x@example.com', 'Ann', false)}, q{INSERT INTO turns VALUES (702, 'y@example.com', 'Bea'), (703, 'y@example.com', 'Cay')});
in_turn(q{DELETE FROM turns WHERE id = 701});
$node->safe_psql('postgres', q{ALTER SERVER turns OPTIONS (SET concurrency '2')});
$last = last_seq('campaignlark');
$sandbox->fault('campaignlark', { match => { account => 'turns', email => 'y@example.com' }, action => { stall => \1 } });
$node->safe_psql('postgres', q{UPDATE turns SET name = 'Cay2' WHERE id = 703});
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{seq} > $last && $_[-1]{in_flight} });
foreach my $change (q{UPDATE turns SET email = 'x@example.com', consent = false WHERE id = 702}, q{INSERT INTO turns VALUES (704, 'x@example.com', 'Dan')})
{
	$node->safe_psql('postgres', $_) foreach $change, q{INSERT INTO turns SELECT max(id) + 1, format('z%s@example.com', max(id) + 1) FROM turns};
	my $id = $node->safe_psql('postgres', q{SELECT max(id) FROM turns});
	$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{body} =~ /z$id\@example/ });
}
$sandbox->clear_faults('campaignlark');
$node->safe_psql('postgres', $_) foreach q{CALL contactsync_wait('turns')}, q{ALTER SERVER turns OPTIONS (SET concurrency '1')};
is(claims('x', $last), 0, '... also if that was read already');

# a call is to be repeated; its row has turned to true meanwhile, and waits until another one is read that its transaction has
# changed, too, and that has waited for the call
in_turn(q{INSERT INTO turns VALUES (81, 'p@example.com', 'Ann', false)}, q{INSERT INTO turns VALUES (82, 'p@example.com', 'Bea', false)});
$node->safe_psql('postgres', q{ALTER SERVER turns OPTIONS (SET concurrency '2')});
$last = last_seq('campaignlark');
$sandbox->fault('campaignlark', { match => { account => 'turns', email => 'p@example.com' }, action => { status => 503, stall => \1 } });
$node->safe_psql('postgres', q{UPDATE turns SET name = 'Ann2' WHERE id = 81});
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{seq} > $last && $_[-1]{in_flight} });
$node->safe_psql('postgres', $_) foreach q{UPDATE turns SET name = 'Bea2' WHERE id = 82}, q{INSERT INTO turns VALUES (83, 'q@example.com', 'Dora')};
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{body} =~ /q\@example/ });
$node->safe_psql('postgres', $_)
  foreach q{UPDATE turns SET name = name || 3, consent = (id = 81) WHERE email = 'p@example.com'}, q{INSERT INTO turns VALUES (84, 'r@example.com', 'Eve')};
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{body} =~ /r\@example/ });
$sandbox->clear_faults('campaignlark');
$node->poll_query_until('postgres', q{SELECT backlog = 0 FROM contactsync.status WHERE server = 'turns'}) or die 'timed out waiting for a row that waits for another one';
is(claims('p', $last), 1, 'a row that waits for another one does not keep that from being read');
$node->safe_psql('postgres', q{ALTER SERVER turns OPTIONS (SET concurrency '1')});

# a row that changed again while it stood in line is sent before another one of its contact, which is read together with what
# was queued since
create_server($node, $sandbox, 'mailingcore', account => 'line', server => { pace => 1000, burst => 1000, timeout => '1h', batch_size => 10, concurrency => 1 });
$node->safe_psql(
	'postgres', q{
	CREATE TABLE line (id int PRIMARY KEY, email text NOT NULL, version int NOT NULL DEFAULT 1);
	SELECT contactsync_watch('line', 'line', '{"email": "email", "attributes": {"points": "version"}}');
	INSERT INTO line SELECT g, format('line%s@example.com', g % 29) FROM generate_series(1, 30) g;
	CALL contactsync_wait('line')});
$node->safe_psql('postgres', $_)
  foreach q{SELECT contactsync_pause('line')}, q{UPDATE line SET version = 2 WHERE id <= 10}, q{UPDATE line SET version = 3 WHERE id = 30},
  q{UPDATE line SET version = 4 WHERE id = 1}, q{UPDATE line SET version = 5 WHERE id BETWEEN 11 AND 20};
$node->safe_psql('postgres', q{SELECT contactsync_resume('line'); CALL contactsync_wait('line')});
is(versions('mailingcore', 'line1@example.com'), '1,4', 'the row that changed last is sent, and no older one after it');

# a row waits for the address that another contact is about to leave; meanwhile another row of its contact, which needs no such
# address, is sent: this one has changed last
create_server($node, $sandbox, 'mailingcore', account => 'moving', server => { pace => 1000, burst => 1000, timeout => '1h', batch_size => 1, concurrency => 8 });
$node->safe_psql(
	'postgres', q{
	CREATE TABLE moving (id int PRIMARY KEY, ext text NOT NULL, email text NOT NULL, version int NOT NULL DEFAULT 1);
	SELECT contactsync_watch('moving', 'moving', '{"email": "email", "external_id": "ext", "attributes": {"points": "version"}}');
	INSERT INTO moving VALUES (1, 'x', 'x1@example.com'), (2, 'y', 'y1@example.com');
	CALL contactsync_wait('moving')});
$last = last_seq('mailingcore');
$sandbox->fault('mailingcore', { match => { account => 'moving', email => 'y2@example.com' }, action => { stall => \1 } });
$node->safe_psql('postgres', q{UPDATE moving SET email = 'y2@example.com' WHERE id = 2});
$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{seq} > $last && $_[-1]{in_flight} });
$node->safe_psql('postgres', $_)
  foreach q{UPDATE moving SET email = 'y1@example.com', version = 2 WHERE id = 1}, q{INSERT INTO moving VALUES (3, 'x', 'x3@example.com', 3)};
$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{body} =~ /x3\@example/ && !$_[-1]{in_flight} });
$sandbox->clear_faults('mailingcore');
$node->safe_psql('postgres', q{CALL contactsync_wait('moving')});
is( join(' ', map { "$_->{email} $_->{attributes}{points}" } grep { $_->{externalId} eq 'x' } @{ $sandbox->contacts('mailingcore', account => 'moving') }),
	'x3@example.com 3', 'a row that waits for an address overwrites no other row of its contact that has changed since');

# Caramel cannot be told of the no, which counts nevertheless
create_server($node, $sandbox, 'caramel', account => 'kept', server => { form_id => 'frm_import', form_pace => 500, pace => 500, burst => 50 });
$node->safe_psql(
	'postgres', q{
	SELECT contactsync_watch('people', 'kept', '{"email": "email", "first_name": "public.read(id, name)", "opt_in": "consent"}');
	CALL contactsync_wait('held');
	UPDATE people SET consent = true;
	CALL contactsync_wait('kept')});
sub forms { return scalar(grep { ($_->{body} // '') =~ /form\.submit/ } @{ $sandbox->journal('caramel', account => 'kept') }); }
$node->safe_psql('postgres', q{UPDATE people SET consent = false WHERE id = 1; CALL contactsync_wait('kept')});
my $forms = forms();
$node->safe_psql('postgres', $_)
  foreach 'INSERT INTO held VALUES (1)', 'UPDATE people SET consent = true WHERE id = 1', 'UPDATE people SET consent = false WHERE id = 2';
$node->poll_query_until('postgres', q{SELECT array_agg(key) = '{1}' FROM contactsync.changes WHERE server = 'kept'})
  or die 'timed out waiting for the no';
$node->safe_psql('postgres', q{DELETE FROM held; CALL contactsync_wait('kept')});
is(forms(), $forms, 'a word of a row that could not be read is none after a no that Caramel kept');

$node->stop;
done_testing();
