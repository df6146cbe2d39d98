# The shipped definitions of services that take several contacts a call, and are told of consent by another one.

use strict;
use warnings;

use JSON::PP;
use Shipped;
use Test::More;

start_shipped(qw(hubspot));
my $url = $sandbox->url;


# HubSpot: contacts, then what they want
$sandbox->config('hubspot', { account => 'hubspot', keys => { pat => {} }, requires_consent => JSON::PP::true, limits => { app => undef } });
create('hubspot', "base_url '$url/hubspot', subscription_id '7', \"create\" 'everybody'", "api_key 'pat'");
$sandbox->call('POST', 'hubspot/contacts', { account => 'hubspot', contacts => [ { email => 'left@example.com', properties => { email => 'left@example.com' } } ] });
$sandbox->call('POST', 'hubspot/people', { account => 'hubspot', email => 'left@example.com', act => 'opt_out' });
people('hubspot', '{"email": "email", "first_name": "name", "opt_in": "wants", "attributes": {"plan": "plan"}}');
my %inputs;
$inputs{ $_->{path} =~ s{.*/}{}r =~ s{\?.*}{}r } += @{ body($_)->{inputs} } foreach grep { $_->{method} eq 'POST' } journal('hubspot', 'hubspot');
is_deeply(\%inputs, { upsert => 4, read => 1, write => 2 }, 'hubspot: all are written, who is new and wants mail is asked for, and two say something');
my ($yes) = grep { $_->{email} eq 'yes@example.com' } @{ $sandbox->contacts('hubspot', account => 'hubspot') };
is_deeply($yes->{properties}, { email => 'yes@example.com', firstname => 'Yes', plan => 'pro' }, 'hubspot: properties');
check_consent('hubspot', 'hubspot', 'email');
is(resubscribed('hubspot', 'hubspot'), 1, 'hubspot: only the word subscribed somebody again');
$sandbox->call('POST', 'hubspot/people', { account => 'hubspot', email => 'earlier@example.com', act => 'opt_out' });
settle('hubspot', q{INSERT INTO hubspot VALUES (5, 'earlier@example.com', 'Earlier', true, NULL)});
is(mailable('hubspot', 'hubspot')->{'earlier@example.com'}, '-', 'hubspot: an opt-out of before there was a contact stands');
$sandbox->fault('hubspot', { match => { account => 'hubspot', path => '*/upsert' }, times => 3, action => { reject_items => { 'c150@example.com' => { code => 'VALIDATION_ERROR', message => 'not here' } } } });
settle('hubspot', q{INSERT INTO hubspot SELECT n, format('c%s@example.com', n), 'C', n % 2 = 0, NULL FROM generate_series(101, 350) n});
is(scalar(@{ $sandbox->contacts('hubspot', account => 'hubspot') }), 253, 'hubspot: all but one arrive');
is(app(q{SELECT string_agg(key || ' ' || code || ' ' || message, ', ') FROM contactsync.failures WHERE server = 'hubspot'}), '150 VALIDATION_ERROR not here', 'hubspot: which fails alone');
app(q{SELECT contactsync_ignore(ARRAY(SELECT id FROM contactsync.failures))});
is((scalar grep { @{ body($_)->{inputs} } > 100 } grep { $_->{method} eq 'POST' } journal('hubspot', 'hubspot')), 0, 'hubspot: batches have 100 contacts at most');
is((scalar grep { $_ eq 'mailable' } values %{ mailable('hubspot', 'hubspot') }), 124, 'hubspot: who wants mail can be mailed');
# what can be refused of a batch as a whole is found out
$sandbox->fault('hubspot', { match => { account => 'hubspot', path => '*/write', email => 'c102@example.com' }, times => undef, action => { status => 400, body => { status => 'error', category => 'VALIDATION_ERROR', message => 'no' } } });
settle('hubspot', q{UPDATE hubspot SET wants = false WHERE id BETWEEN 101 AND 120});
is(app(q{SELECT string_agg(key || ' ' || message, ', ') FROM contactsync.failures WHERE server = 'hubspot'}), '102 no', 'hubspot: a refusal of a batch of words is the one contact\'s');
$sandbox->clear_faults('hubspot');
app(q{SELECT contactsync_retry('hubspot')});
settle('hubspot', 'SELECT 1');
is(mailable('hubspot', 'hubspot')->{'c102@example.com'}, '-', 'hubspot: whose withdrawal arrives when it is tried again');
is(app(q{SELECT bool_or(result = 'ok') FROM contactsync_verify('hubspot')}), 't', 'hubspot: contacts are read back and compared');
cmp_ok(app(q{SELECT contactsync_pull('hubspot')}), '>', 200, 'hubspot: contacts are listed, page by page');
is(app(q{SELECT count(*) FROM contactsync.opt_outs WHERE server = 'hubspot' AND email = 'yes@example.com'}), '1', 'hubspot: with opt-outs');
check_errors('hubspot', 'hubspot', 'api_key', 'pat');
# a daily limit is no fault
$sandbox->fault('hubspot', { match => { account => 'hubspot' }, times => 1, action => { status => 429, body => { status => 'error', policyName => 'TEN_SECONDLY_ROLLING', message => 'slow down' }, headers => { 'Retry-After' => '1' } } });
settle('hubspot', q{UPDATE hubspot SET name = 'Slow' WHERE id = 1});
is(app(q{SELECT count(*) FROM contactsync.failures WHERE server = 'hubspot'}), '0', 'hubspot: a throttle is no failure');
# by default, whoever did not consent is not created
$sandbox->config('hubspot', { account => 'cautious', keys => { pat2 => {} }, limits => { app => undef } });
app("CREATE SERVER cautious FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'hubspot', base_url '$url/hubspot', subscription_id '7'); CREATE USER MAPPING FOR app SERVER cautious OPTIONS (api_key 'pat2')");
people('cautious', '{"email": "email", "opt_in": "wants"}');
is_deeply(mailable('hubspot', 'cautious'), { 'yes@example.com' => 'mailable', 'left@example.com' => 'mailable' }, 'hubspot: by default nobody is created who did not consent');

done_testing();
