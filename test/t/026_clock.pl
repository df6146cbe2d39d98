# What delivery goes by is neither the system's clock, which somebody may set, nor the start of the process.

use strict;
use warnings;

use ContactSync;
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use Test::More;

my $directory = PostgreSQL::Test::Utils::tempdir;
my $offset = "$directory/offset";

# Set the clock of the server's processes, by so many seconds.
sub set_clock
{
	my ($seconds) = @_;

	open my $file, (-e $offset ? '+<' : '>'), $offset or die $!;
	syswrite $file, pack('q', $seconds) or die $!;
	close $file or die $!;
	return;
}

system_or_bail(qw(cc -shared -fPIC -o), "$directory/clock.so", dirname(__FILE__) . '/../clock/clock.c');
set_clock(0);

my $sandbox = start_sandbox();
my $node;
{
	local $ENV{LD_PRELOAD} = "$directory/clock.so";
	local $ENV{CLOCK_OFFSET} = $offset;
	$node = start_node('contactsync.clock_speed' => 10, 'restart_after_crash' => 'on');
}
sub sql { return $node->safe_psql('postgres', $_[0]); }

sub deliver
{
	my ($first, $last) = @_;

	sql("INSERT INTO customers SELECT g, format('c%s\@example.com', g) FROM generate_series($first, $last) g");
	$sandbox->wait_for_contacts('mailingcore', $last, account => 'mail');
	return;
}

my ($pace, $burst) = (0.5, 4);
create_server($node, $sandbox, 'mailingcore', account => 'mail', server => { batch_size => 1, concurrency => 1, pace => $pace, burst => $burst });
sql(q{
	CREATE TABLE customers (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('customers', 'mail', '{"external_id": "id", "email": "email"}')});
deliver(1, 4);
set_clock(-3600);
is(sql(q{SELECT now() < max(started_at) FROM contactsync.calls}), 't', 'the clock was set back');
deliver(5, 6);
pass('delivery goes on');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'contactsync worker'});
deliver(7, 7);
pass('a worker that ends is started again');
set_clock(3600);
deliver(8, 9);
pass('delivery goes on after the clock was set forward');
# a worker that was killed may just have made calls
crash_worker($node, 'postgres');
deliver(10, 14);

# whoever has gone is removed, also if the clock is set back before
create_server($node, $sandbox, 'mailingcore', account => 'gone', server => { pace => 100, burst => 100 });
sql(q{
	CREATE TABLE members (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('members', 'gone', '{"external_id": "id", "email": "email"}', on_delete => 'delete', delete_delay => '20 s');
	INSERT INTO members VALUES (1, 'one@example.com')});
$sandbox->wait_for_contacts('mailingcore', 1, account => 'gone');
sql('DELETE FROM members');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM contactsync.departure}) or die 'timed out waiting for the row to be gone';
set_clock(0);
wait_for('the removal', sub { !@{ $sandbox->contacts('mailingcore', account => 'gone') } });
pass('a removal does not wait for the clock');

# calls follow the bucket, whatever process makes them
my @clock = map { $_->{clock} * 10 } @{ $sandbox->journal('mailingcore', account => 'mail') };
my $lowest = $burst;
my $tokens = $burst;
foreach my $i (1 .. $#clock)
{
	$tokens = $tokens - 1 + ($clock[$i] - $clock[ $i - 1 ]) * $pace;
	$tokens = $burst if $tokens > $burst;
	$lowest = $tokens if $tokens < $lowest;
}
cmp_ok($lowest, '>', -2, 'a new process does not begin with a full bucket');

$node->stop;
done_testing();
