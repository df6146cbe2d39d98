# Two calls for the same contact are never in flight at the same time, and an older value never follows a newer one.

use strict;
use warnings;

use ContactSync;
use Test::More;

# memory that is freed has other contents then, and is no more to be used
$ENV{MALLOC_PERTURB_} = 165;

my $sandbox = start_sandbox(clock_speed => 20);
my $node = start_node('contactsync.clock_speed' => 20);

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

	$node->poll_query_until('postgres', qq{SELECT string_agg(key, ',' ORDER BY key) = '$keys' FROM contactsync.changes WHERE server = 'held'})
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
