# Rows of one address that say yes and no in one transaction, in whatever order they are read: no wins, until somebody says yes later.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

# everything is done by a role that owns nothing but its servers and tables
$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop});

sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'shop' ]); }

# where several rows can be of one contact, and of several of one address
my $ext = '{"email": "email", "external_id": "ext", "opt_in": "wants"}';
my $plain = '{"email": "email", "opt_in": "wants"}';
my %accounts = (
	mails => [ 'mailingcore', $plain ],
	ids => [ 'mailingcore', $ext ],
	larks => [ 'campaignlark', $plain ],
	owlrows => [ 'owlat', $plain, { topic_id => 'topicsingle000000000000000000000' } ],
	zees => [ 'spotzee', $ext, { subscription_id => 5 } ],
	kept => [ 'spotzee', $ext ],
	cars => [ 'caramel', $plain, { form_id => 'frm_import', form_pace => 500, route => 'form' } ]);

# The cases: what the rows of one table, or of two, say before ('': there is none), and the statements of the transaction.
my ($yes, $no, $turn) = ('a row to yes', 'a row to no', 'both rows');
my @cases = ([ 'one', 'false', 'true', $turn ], [ 'one', '', '', $no, $yes ], [ 'one', '', '', $yes, $no ]);
push @cases, [ $_, 'false', 'true', $yes, $no ], [ $_, 'false', 'true', $no, $yes ], [ $_, 'false', '', $no, $yes ] foreach qw(one two);

# Whether a contact is subscribed, where a later no can be delivered.
my %is_in = (
	mailingcore => sub { $_[0]{optIn} },
	campaignlark => sub { $_[0]{status} eq 'SUBSCRIBED' },
	owlat => sub { %{ $_[0]{topics} } },
	spotzee => sub { $_[0]{subscriptions}{5} });

# How many requests made each person reachable, by name.
sub felt
{
	my ($provider, $account) = @_;

	return { map {
		my $person = $_;
		$person->{email} =~ s/\@.*//r => scalar grep { $_->{kind} =~ /claimed|asked/ || grep { $_ ne 'campaigns that do not ask' } @{ $_->{gained} // [] } } @{ $person->{events} }
	} @{ $sandbox->call('GET', "$provider/mailable", undef, account => $account) } };
}

foreach my $account (sort keys %accounts)
{
	my ($provider, $mapping, $options) = @{ $accounts{$account} };
	my $settle = sub { sql(join(';', @_, "CALL contactsync_wait('$account')")) };

	create_server($node, $sandbox, $provider, account => $account, role => 'shop', server => { pace => 500, burst => 50, bulk_guard => 0, %{ $options // {} } });
	sql(qq{
		CREATE TABLE $_ (id int PRIMARY KEY, ext text, email text, wants boolean);
		SELECT contactsync_watch('$_', '$account', '$mapping')}) foreach "${account}_one", "${account}_two";

	foreach my $size ('many', 'one')
	{
		my ($n, @first, @second, @change, @later, @titles) = ($size eq 'one' ? 100 : 0);

		sql("ALTER SERVER $account OPTIONS (ADD concurrency '1'" . ($provider =~ /mailingcore|spotzee/ ? q{, ADD batch_size '1'} : '') . ')') if $size eq 'one';
		foreach my $case (@cases)
		{
			my ($tables, $first, $second, @statements) = @$case;
			my ($table, $other, $id, $next) = ("${account}_one", "${account}_$tables", 2 * ++$n, 2 * $n + 1);
			my $insert = sub { my ($into, $row, $says) = @_; return "INSERT INTO $into VALUES ($row, 'e$n', 'p$n\@example.com', $says)" };
			my %do = (
				$yes => $first ? "UPDATE $table SET wants = true WHERE id = $id" : $insert->($table, $id, 'true'),
				$no => $second ? "UPDATE $other SET wants = false WHERE id = $next" : $insert->($other, $next, 'false'),
				$turn => "UPDATE $table SET wants = NOT wants WHERE ext = 'e$n'");

			push @first, $insert->($table, $id, $first) if $first;
			push @second, $insert->($other, $next, $second) if $second;
			push @change, 'BEGIN', @do{@statements}, 'COMMIT';
			push @later, "UPDATE $other SET wants = true WHERE id = $next";
			push @titles, [ "p$n", "$account, $size at a time, $tables, " . join(' and ', $first || 'none', $second || 'none') . ': ' . join(', ', @statements) ];
		}
		$settle->(@first);
		$settle->(@second);
		my $before = felt($provider, $account);
		$settle->(@change);
		my ($after, @contacts) = (felt($provider, $account), @{ $sandbox->contacts($provider, account => $account) });
		$settle->(@later);
		my $last = felt($provider, $account);
		foreach my $title (@titles)
		{
			my ($name, $text) = @$title;

			# a row that says no, and comes to the address, can be read after the one that says yes: it withdraws what was claimed
			if ($text =~ /two, false and none|none and none: $yes/)
			{
				is((grep { ($_->{email} // $_->{email_address}) =~ /^$name\@/ && $is_in{$provider}->($_) } @contacts), 0, $text) if $account !~ /cars|kept/;
				next;
			}
			is($after->{$name} // 0, $before->{$name} // 0, $text);
			cmp_ok($last->{$name} // 0, '>', $after->{$name} // 0, "$text, until that row says yes");
		}
	}
}

# Rows that only get another key say nothing new, though they say yes and no in one transaction: nobody feels it.
foreach my $account ('ids', 'zees')
{
	my ($provider, $mapping) = @{ $accounts{$account} };

	sql(qq{
		CREATE TABLE ${account}_keys (id int PRIMARY KEY, ext text, email text, wants boolean);
		SELECT contactsync_watch('${account}_keys', '$account', '$mapping');
		INSERT INTO ${account}_keys VALUES (1, 'k3', 'k3\@example.com', true), (2, 'k1', 'k1\@example.com', true);
		CALL contactsync_wait('$account');
		UPDATE ${account}_keys SET email = 'left\@example.com' WHERE id = 2;
		UPDATE ${account}_keys SET email = 'k1\@example.com' WHERE id = 1;
		CALL contactsync_wait('$account');
		INSERT INTO ${account}_keys VALUES (3, 'k3', 'k3\@example.com', true), (4, 'k1', 'k1\@example.com', true);
		CALL contactsync_wait('$account');
		UPDATE ${account}_keys SET wants = false WHERE id = 4;
		CALL contactsync_wait('$account');
		UPDATE ${account}_keys SET ext = NULL WHERE id = 4 AND '$account' = 'ids';
		CALL contactsync_wait('$account')});
	my $felt = felt($provider, $account);
	# whichever is read first
	sql(join(';', 'BEGIN', (map { "UPDATE ${account}_keys SET id = id + 100 WHERE id % 100 = $_" } @$_), 'COMMIT', "CALL contactsync_wait('$account')"))
	  foreach [ 4, 1, 3 ], [ 1, 3, 4 ], [ 3, 4, 1 ];
	is_deeply(felt($provider, $account), $felt, "$account: other keys claim nothing");
	next if $account ne 'zees';
	is((grep { $_->{body} =~ /"k3","subscription_id":5,"state":0/ } @{ $sandbox->journal($provider, account => $account) }),
		0, "$account: and withdraw nothing from a contact of which no row says no");
}

$node->stop;
done_testing();
