"""The template of report.html, compiled by Jinja: made by `make page` from `report.html.j2`."""

# mypy: ignore-errors

JINJA_VERSION = "3.1.6"

from jinja2.runtime import LoopContext, Macro, Markup, Namespace, TemplateNotFound, TemplateReference, TemplateRuntimeError, Undefined, escape, identity, internalcode, markup_join, missing, str_join
name = 'report.html.j2'

def root(context, missing=missing):
    resolve = context.resolve_or_missing
    undefined = environment.undefined
    concat = environment.concat
    cond_expr_undefined = Undefined
    if 0: yield None
    l_0_continue_advice = resolve('continue_advice')
    l_0_run = resolve('run')
    l_0_script = resolve('script')
    l_0_verdict = resolve('verdict')
    l_0_style = resolve('style')
    l_0_plan = resolve('plan')
    l_0_bar = resolve('bar')
    l_0_found = resolve('found')
    l_0_differences = resolve('differences')
    l_0_causes = resolve('causes')
    l_0_causes_in_all = resolve('causes_in_all')
    l_0_attention_file = resolve('attention_file')
    l_0_feed_back = resolve('feed_back')
    l_0_changed_by_others = resolve('changed_by_others')
    l_0_holders = resolve('holders')
    l_0_without_effect = resolve('without_effect')
    l_0_customers = resolve('customers')
    l_0_transfers_by_state = resolve('transfers_by_state')
    l_0_transfers = resolve('transfers')
    l_0_undo = resolve('undo')
    l_0_undo_command = resolve('undo_command')
    l_0_timeline = resolve('timeline')
    l_0_lasted = resolve('lasted')
    l_0_slices = resolve('slices')
    l_0_peak = resolve('peak')
    l_0_limit = resolve('limit')
    l_0_shown_limit = resolve('shown_limit')
    l_0_top = resolve('top')
    l_0_step = resolve('step')
    l_0_H = resolve('H')
    l_0_high = resolve('high')
    l_0_range = resolve('range')
    l_0_events = resolve('events')
    l_0_links = resolve('links')
    l_0_contradicted = l_0_not_found = l_0_spell_alike = l_0_no_effect = l_0_in_the_source = l_0_codes = l_0_files = l_0_states = l_0_attempt_ends = l_0_count = l_0_cell = l_0_rows_table = l_0_sha = l_0_copy = l_0_when = l_0_chip = l_0_settled = l_0_tone = l_0_total = missing
    try:
        t_1 = environment.filters['capitalize']
    except KeyError:
        @internalcode
        def t_1(*unused):
            raise TemplateRuntimeError("No filter named 'capitalize' found.")
    try:
        t_2 = environment.filters['duration']
    except KeyError:
        @internalcode
        def t_2(*unused):
            raise TemplateRuntimeError("No filter named 'duration' found.")
    try:
        t_3 = environment.filters['format']
    except KeyError:
        @internalcode
        def t_3(*unused):
            raise TemplateRuntimeError("No filter named 'format' found.")
    try:
        t_4 = environment.filters['hash']
    except KeyError:
        @internalcode
        def t_4(*unused):
            raise TemplateRuntimeError("No filter named 'hash' found.")
    try:
        t_5 = environment.filters['join']
    except KeyError:
        @internalcode
        def t_5(*unused):
            raise TemplateRuntimeError("No filter named 'join' found.")
    try:
        t_6 = environment.filters['length']
    except KeyError:
        @internalcode
        def t_6(*unused):
            raise TemplateRuntimeError("No filter named 'length' found.")
    try:
        t_7 = environment.filters['list']
    except KeyError:
        @internalcode
        def t_7(*unused):
            raise TemplateRuntimeError("No filter named 'list' found.")
    try:
        t_8 = environment.filters['map']
    except KeyError:
        @internalcode
        def t_8(*unused):
            raise TemplateRuntimeError("No filter named 'map' found.")
    try:
        t_9 = environment.filters['max']
    except KeyError:
        @internalcode
        def t_9(*unused):
            raise TemplateRuntimeError("No filter named 'max' found.")
    try:
        t_10 = environment.filters['moment']
    except KeyError:
        @internalcode
        def t_10(*unused):
            raise TemplateRuntimeError("No filter named 'moment' found.")
    try:
        t_11 = environment.filters['n']
    except KeyError:
        @internalcode
        def t_11(*unused):
            raise TemplateRuntimeError("No filter named 'n' found.")
    try:
        t_12 = environment.filters['pct']
    except KeyError:
        @internalcode
        def t_12(*unused):
            raise TemplateRuntimeError("No filter named 'pct' found.")
    try:
        t_13 = environment.filters['replace']
    except KeyError:
        @internalcode
        def t_13(*unused):
            raise TemplateRuntimeError("No filter named 'replace' found.")
    try:
        t_14 = environment.filters['selectattr']
    except KeyError:
        @internalcode
        def t_14(*unused):
            raise TemplateRuntimeError("No filter named 'selectattr' found.")
    try:
        t_15 = environment.filters['string']
    except KeyError:
        @internalcode
        def t_15(*unused):
            raise TemplateRuntimeError("No filter named 'string' found.")
    try:
        t_16 = environment.filters['striptags']
    except KeyError:
        @internalcode
        def t_16(*unused):
            raise TemplateRuntimeError("No filter named 'striptags' found.")
    try:
        t_17 = environment.filters['sum']
    except KeyError:
        @internalcode
        def t_17(*unused):
            raise TemplateRuntimeError("No filter named 'sum' found.")
    try:
        t_18 = environment.filters['truncate']
    except KeyError:
        @internalcode
        def t_18(*unused):
            raise TemplateRuntimeError("No filter named 'truncate' found.")
    try:
        t_19 = environment.filters['urlencode']
    except KeyError:
        @internalcode
        def t_19(*unused):
            raise TemplateRuntimeError("No filter named 'urlencode' found.")
    try:
        t_20 = environment.filters['whole']
    except KeyError:
        @internalcode
        def t_20(*unused):
            raise TemplateRuntimeError("No filter named 'whole' found.")
    try:
        t_21 = environment.tests['defined']
    except KeyError:
        @internalcode
        def t_21(*unused):
            raise TemplateRuntimeError("No test named 'defined' found.")
    try:
        t_22 = environment.tests['iterable']
    except KeyError:
        @internalcode
        def t_22(*unused):
            raise TemplateRuntimeError("No test named 'iterable' found.")
    try:
        t_23 = environment.tests['mapping']
    except KeyError:
        @internalcode
        def t_23(*unused):
            raise TemplateRuntimeError("No test named 'mapping' found.")
    try:
        t_24 = environment.tests['none']
    except KeyError:
        @internalcode
        def t_24(*unused):
            raise TemplateRuntimeError("No test named 'none' found.")
    try:
        t_25 = environment.tests['sameas']
    except KeyError:
        @internalcode
        def t_25(*unused):
            raise TemplateRuntimeError("No test named 'sameas' found.")
    try:
        t_26 = environment.tests['string']
    except KeyError:
        @internalcode
        def t_26(*unused):
            raise TemplateRuntimeError("No test named 'string' found.")
    pass
    l_0_continue_advice = t_20((undefined(name='continue_advice') if l_0_continue_advice is missing else l_0_continue_advice))
    context.vars['continue_advice'] = l_0_continue_advice
    context.exported_vars.add('continue_advice')
    l_0_contradicted = 'It was changed after this run, or the API did not keep the change. Find out which, then run attention.csv if the change is still wanted.'
    context.vars['contradicted'] = l_0_contradicted
    context.exported_vars.add('contradicted')
    l_0_not_found = 'Telemetron has no such customer. Correct the email address, or remove the row if this customer never existed; then run attention.csv.'
    context.vars['not_found'] = l_0_not_found
    context.exported_vars.add('not_found')
    l_0_spell_alike = 'Write the device in the same spelling in both rows, this one and the one that detail names, and run the two together.'
    context.vars['spell_alike'] = l_0_spell_alike
    context.exported_vars.add('spell_alike')
    l_0_no_effect = 'Check that the customers and the serials are right. If they are, nothing is left to do: these customers do not have these devices.'
    context.vars['no_effect'] = l_0_no_effect
    context.exported_vars.add('no_effect')
    l_0_in_the_source = 'Correct it in the source, or in attention.csv, and run that file.'
    context.vars['in_the_source'] = l_0_in_the_source
    context.exported_vars.add('in_the_source')
    l_0_codes = {0: 'Every row is where it should be. There is nothing to do.', 1: 'Finished, but some rows want attention: see attention.csv.', 2: 'The run could not start. Nothing was sent.', 3: markup_join(('Stopped before the end. To continue where this run stopped, ', (undefined(name='continue_advice') if l_0_continue_advice is missing else l_0_continue_advice), '.', )), 4: markup_join(('The API refuses this client. Correct the key or the address, then ', (undefined(name='continue_advice') if l_0_continue_advice is missing else l_0_continue_advice), '.', )), 5: 'Stopped by a brake that was set for this run. Look at the causes below before you continue.', 6: 'Another process is using this run, or this key.', 7: "The books do not balance, which is a bug. Keep the run's folder and report it."}
    context.vars['codes'] = l_0_codes
    context.exported_vars.add('codes')
    l_0_files = {'reconciliation.csv': 'one row for each input row, with its outcome', 'attention.csv': "the rows that want attention, in the input's own columns: correct it and feed it back", 'attention.xlsx': 'the same as a workbook in which every cell is text', 'preview.csv': 'what a look before sending said of each row', 'undo.csv': 'an input file that takes back what this run surely changed', 'reconciliation.xlsx': 'the reconciliation as a workbook', 'summary.json': 'the numbers on this page, for programs', 'run.log': 'the log, as JSON lines', 'journal.sqlite3': 'the journal: every attempt and every answer'}
    context.vars['files'] = l_0_files
    context.exported_vars.add('files')
    l_0_states = {'moved': 'unassigned from the former owner, assigned to the new one', 'not moved': 'neither unassigned nor assigned', 'taken back, not given': 'with neither of the two now, as far as this run knows', 'given, not taken back': 'assigned to the new owner; not surely unassigned from the former one'}
    context.vars['states'] = l_0_states
    context.exported_vars.add('states')
    l_0_attempt_ends = {'answered': 'answered', 'throttled': 'refused by the rate limit', 'unclear': 'unclear: no usable answer', 'unsent': 'no connection, nothing sent'}
    context.vars['attempt_ends'] = l_0_attempt_ends
    context.exported_vars.add('attempt_ends')
    def macro(l_1_number, l_1_noun):
        t_27 = []
        if l_1_number is missing:
            l_1_number = undefined("parameter 'number' was not provided", name='number')
        if l_1_noun is missing:
            l_1_noun = undefined("parameter 'noun' was not provided", name='noun')
        pass
        t_27.extend((
            escape(environment.finalize(t_11(l_1_number))),
            '&nbsp;',
            escape(environment.finalize(l_1_noun)),
            escape(environment.finalize(('' if (l_1_number == 1) else 's'))),
        ))
        return concat(t_27)
    context.exported_vars.add('count')
    context.vars['count'] = l_0_count = Macro(environment, macro, 'count', ('number', 'noun'), False, False, False, context.eval_ctx.autoescape)
    def macro(l_1_text):
        t_28 = []
        if l_1_text is missing:
            l_1_text = undefined("parameter 'text' was not provided", name='text')
        pass
        if l_1_text:
            pass
            t_28.extend((
                '<bdi class="cell">',
                escape(environment.finalize(l_1_text)),
                '</bdi>',
            ))
        else:
            pass
            t_28.append(
                '<span class="none">(empty)</span>',
            )
        return concat(t_28)
    context.exported_vars.add('cell')
    context.vars['cell'] = l_0_cell = Macro(environment, macro, 'cell', ('text',), False, False, False, context.eval_ctx.autoescape)
    def macro(l_1_rows, l_1_in_all, l_1_caption, l_1_heading):
        t_29 = []
        if l_1_rows is missing:
            l_1_rows = undefined("parameter 'rows' was not provided", name='rows')
        if l_1_in_all is missing:
            l_1_in_all = undefined("parameter 'in_all' was not provided", name='in_all')
        if l_1_caption is missing:
            l_1_caption = undefined("parameter 'caption' was not provided", name='caption')
        if l_1_heading is missing:
            l_1_heading = undefined("parameter 'heading' was not provided", name='heading')
        pass
        t_29.extend((
            '<div class="scroll tall" tabindex="0" role="region" aria-labelledby="',
            escape(environment.finalize(l_1_heading)),
            '">\n<table class="sortable">\n<caption>',
            escape(environment.finalize(l_1_caption)),
        ))
        if (l_1_in_all > t_6(l_1_rows)):
            pass
            t_29.extend((
                ': the first ',
                escape(environment.finalize(t_6(l_1_rows))),
            ))
        t_29.append(
            '</caption>\n<thead><tr><th scope="col">Line</th><th scope="col">Customer</th><th scope="col">Device</th></tr></thead>\n<tbody>\n',
        )
        for l_2_one in l_1_rows:
            _loop_vars = {}
            pass
            t_29.extend((
                '<tr><th scope="row"><bdi>',
                escape(environment.finalize(environment.getattr(l_2_one, 'line'))),
                '</bdi></th><td>',
                escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(l_2_one, 'customer'), _loop_vars=_loop_vars))),
                '</td><td>',
                escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(l_2_one, 'device'), _loop_vars=_loop_vars))),
                '</td></tr>\n',
            ))
        l_2_one = missing
        t_29.append(
            '</tbody>\n</table>\n</div>\n',
        )
        return concat(t_29)
    context.exported_vars.add('rows_table')
    context.vars['rows_table'] = l_0_rows_table = Macro(environment, macro, 'rows_table', ('rows', 'in_all', 'caption', 'heading'), False, False, False, context.eval_ctx.autoescape)
    def macro(l_1_text):
        t_30 = []
        if l_1_text is missing:
            l_1_text = undefined("parameter 'text' was not provided", name='text')
        pass
        t_30.extend((
            '<code title="',
            escape(environment.finalize(l_1_text)),
            '">',
            escape(environment.finalize(l_1_text[:12])),
            '…</code>',
            escape(environment.finalize(context.call((undefined(name='copy') if l_0_copy is missing else l_0_copy), l_1_text, 'SHA-256'))),
        ))
        return concat(t_30)
    context.exported_vars.add('sha')
    context.vars['sha'] = l_0_sha = Macro(environment, macro, 'sha', ('text',), False, False, False, context.eval_ctx.autoescape)
    def macro(l_1_text, l_1_what):
        t_31 = []
        if l_1_text is missing:
            l_1_text = undefined("parameter 'text' was not provided", name='text')
        if l_1_what is missing:
            l_1_what = undefined("parameter 'what' was not provided", name='what')
        pass
        t_31.extend((
            ' <button type="button" class="tool copy" data-copy="',
            escape(environment.finalize(l_1_text)),
            '" aria-label="Copy ',
            escape(environment.finalize(l_1_what)),
            '" hidden>Copy</button>',
        ))
        return concat(t_31)
    context.exported_vars.add('copy')
    context.vars['copy'] = l_0_copy = Macro(environment, macro, 'copy', ('text', 'what'), False, False, False, context.eval_ctx.autoescape)
    def macro(l_1_moment):
        t_32 = []
        if l_1_moment is missing:
            l_1_moment = undefined("parameter 'moment' was not provided", name='moment')
        pass
        t_32.extend((
            '<time datetime="',
            escape(environment.finalize(l_1_moment)),
            '">',
            escape(environment.finalize(l_1_moment[:10])),
            ' ',
            escape(environment.finalize(l_1_moment[11:19])),
            ' UTC</time>',
        ))
        return concat(t_32)
    context.exported_vars.add('when')
    context.vars['when'] = l_0_when = Macro(environment, macro, 'when', ('moment',), False, False, False, context.eval_ctx.autoescape)
    def macro(l_1_outcome, l_1_wanting):
        t_33 = []
        if l_1_outcome is missing:
            l_1_outcome = undefined("parameter 'outcome' was not provided", name='outcome')
        if l_1_wanting is missing:
            l_1_wanting = undefined("parameter 'wanting' was not provided", name='wanting')
        pass
        t_33.extend((
            '<span class="chip ',
            escape(environment.finalize(('att' if l_1_wanting else 'good'))),
            '">',
            escape(environment.finalize(l_1_outcome)),
            '</span>',
        ))
        return concat(t_33)
    context.exported_vars.add('chip')
    context.vars['chip'] = l_0_chip = Macro(environment, macro, 'chip', ('outcome', 'wanting'), False, False, False, context.eval_ctx.autoescape)
    l_0_settled = (environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'rows') - environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'attention'))
    context.vars['settled'] = l_0_settled
    context.exported_vars.add('settled')
    l_0_tone = ('stopped' if environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'stop') else ('att' if environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'attention') else 'good'))
    context.vars['tone'] = l_0_tone
    context.exported_vars.add('tone')
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'; script-src \'sha256-'
    yield escape(environment.finalize(t_4((undefined(name='script') if l_0_script is missing else l_0_script))))
    yield '\'; base-uri \'none\'; form-action \'none\'">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n<title>'
    yield escape(environment.finalize(t_13(context.eval_ctx, t_16((undefined(name='verdict') if l_0_verdict is missing else l_0_verdict)), '\xa0', ' ')))
    yield ' ('
    yield escape(environment.finalize(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'runId')))
    yield ')</title>\n<style>\n'
    yield escape(environment.finalize((undefined(name='style') if l_0_style is missing else l_0_style)))
    yield '</style>\n</head>\n<body>\n<a class="skip" href="#main">Skip to content</a>\n<svg width="0" height="0" style="position:absolute" aria-hidden="true" focusable="false"><defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="5" height="5" style="fill:var(--att)"/><rect width="1.6" height="5" style="fill:var(--paper)"/></pattern></defs></svg>\n<header>\n<div class="eyebrow"><span class="state '
    yield escape(environment.finalize((undefined(name='tone') if l_0_tone is missing else l_0_tone)))
    yield '"><span aria-hidden="true">'
    yield escape(environment.finalize(environment.getitem({'good': '✓', 'att': '!', 'stopped': '■'}, (undefined(name='tone') if l_0_tone is missing else l_0_tone))))
    yield '</span> '
    yield escape(environment.finalize(t_1(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'state'))))
    yield '</span> <span>Run '
    yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'runId'))))
    yield '</span>'
    if environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'sandbox'):
        pass
        yield ' <span>sandbox: no real data was changed</span>'
    yield '</div>\n<h1>'
    yield escape(environment.finalize((undefined(name='verdict') if l_0_verdict is missing else l_0_verdict)))
    yield '.</h1>\n'
    if environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'stop'):
        pass
        yield '<div class="callout" role="note"><p><strong>Stopped:</strong> '
        yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'stop'), 'reason'))))
        yield '.</p>'
        if environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'stop'), 'advice'):
            pass
            yield '<p><strong>What to do next:</strong> '
            yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), t_20(environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'stop'), 'advice')))))
            yield '.</p>'
        yield '</div>\n'
    yield '<p class="next">'
    if ((environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'exitCode') == 0) and environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'attention')):
        pass
        yield 'Finished; all rows that want attention have outcomes that the option --tolerate accepts.'
    else:
        pass
        yield escape(environment.finalize(context.call(environment.getattr((undefined(name='codes') if l_0_codes is missing else l_0_codes), 'get'), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'exitCode'), 'The exit code for an input without rows (--empty-exit-code).')))
    yield ' <span class="soft">(exit code '
    yield escape(environment.finalize(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'exitCode')))
    yield ')</span></p>\n<dl class="facts">\n<div><dt>Started</dt><dd>'
    yield escape(environment.finalize((context.call((undefined(name='when') if l_0_when is missing else l_0_when), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'startedAt')) if environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'startedAt') else 'unknown')))
    yield '</dd></div>\n<div><dt>Ended</dt><dd>'
    yield escape(environment.finalize((context.call((undefined(name='when') if l_0_when is missing else l_0_when), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'endedAt')) if environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'endedAt') else 'unknown')))
    if (not t_24(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'seconds'))):
        pass
        yield ', <span class="whole">after '
        yield escape(environment.finalize(t_2(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'seconds'))))
        yield '</span>'
    yield '</dd></div>\n<div><dt>Sent to</dt><dd>'
    yield escape(environment.finalize(('the embedded sandbox' if environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'sandbox') else context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'baseUrl')))))
    yield '</dd></div>\n<div><dt>Row count</dt><dd>'
    yield escape(environment.finalize(('balanced: one outcome for every row' if environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'balanced') else 'does not balance')))
    yield '</dd></div>\n'
    l_1_loop = missing
    for l_1_file, l_1_loop in LoopContext(environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'files'), undefined):
        _loop_vars = {}
        pass
        yield '<div><dt>Input'
        yield escape(environment.finalize((markup_join((' ', environment.getattr(l_1_loop, 'index'), )) if (t_6(environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'files')) > 1) else cond_expr_undefined("the inline if-expression on line 90 in 'report.html.j2' evaluated to false and no else section was defined."))))
        yield '</dt><dd>'
        yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(l_1_file, 'name'), _loop_vars=_loop_vars)))
        yield ', '
        yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr(l_1_file, 'rows'), 'row', _loop_vars=_loop_vars)))
        yield '</dd></div>\n<div><dt>SHA-256'
        yield escape(environment.finalize((markup_join((' of input ', environment.getattr(l_1_loop, 'index'), )) if (t_6(environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'files')) > 1) else cond_expr_undefined("the inline if-expression on line 91 in 'report.html.j2' evaluated to false and no else section was defined."))))
        yield '</dt><dd>'
        yield escape(environment.finalize(context.call((undefined(name='sha') if l_0_sha is missing else l_0_sha), environment.getattr(l_1_file, 'sha256'), _loop_vars=_loop_vars)))
        yield '</dd></div>\n'
    l_1_loop = l_1_file = missing
    yield '</dl>\n</header>\n<nav aria-label="On this page"><ul>\n<li><a href="#counts">Outcomes</a></li>'
    if t_21(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify')):
        pass
        yield '<li><a href="#verify">Verification</a></li>'
    yield '<li><a href="#attention">Attention</a></li>'
    if t_21(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'preview')):
        pass
        yield '<li><a href="#preview">Preview</a></li>'
    if ((environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'unassignsWithoutEffect') or environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersWithoutDevices')) or environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersStillHolding')):
        pass
        yield '<li><a href="#unassigns">Unassigns</a></li>'
    yield '<li><a href="#customers">New customers</a></li><li><a href="#transfers">Transfers</a></li><li><a href="#undo">Undo</a></li><li><a href="#timeline">Timeline</a></li><li><a href="#plan">Plan and input</a></li><li><a href="#files">Files</a></li>\n</ul></nav>\n<main id="main">\n\n<section id="counts" aria-labelledby="h-counts">\n<h2 id="h-counts">Outcomes</h2>\n'
    if (undefined(name='bar') if l_0_bar is missing else l_0_bar):
        pass
        yield '<figure>\n<svg height="34" role="img" aria-labelledby="bar-title">\n<title id="bar-title">Rows by outcome: '
        l_1_loop = missing
        for (l_1_outcome, l_1_wanting, l_1_rows, l_1__, l_1__), l_1_loop in LoopContext((undefined(name='bar') if l_0_bar is missing else l_0_bar), undefined):
            _loop_vars = {}
            pass
            yield escape(environment.finalize(t_11(l_1_rows)))
            yield ' '
            yield escape(environment.finalize(l_1_outcome))
            yield escape(environment.finalize((' (want attention)' if l_1_wanting else cond_expr_undefined("the inline if-expression on line 106 in 'report.html.j2' evaluated to false and no else section was defined."))))
            yield escape(environment.finalize(('' if environment.getattr(l_1_loop, 'last') else ', ')))
        l_1_loop = l_1_outcome = l_1_wanting = l_1_rows = l_1__ = missing
        yield '</title>\n'
        l_1_loop = missing
        for (l_1_outcome, l_1_wanting, l_1_rows, l_1_x, l_1_width), l_1_loop in LoopContext((undefined(name='bar') if l_0_bar is missing else l_0_bar), undefined):
            _loop_vars = {}
            pass
            yield '<svg x="'
            yield escape(environment.finalize(t_12(l_1_x)))
            yield '" width="'
            yield escape(environment.finalize(t_12(l_1_width)))
            yield '" height="34"><rect width="100%" height="34" class="'
            yield escape(environment.finalize(('f-att' if l_1_wanting else markup_join(('f-', l_1_outcome, )))))
            yield '"><title>'
            yield escape(environment.finalize(t_11(l_1_rows)))
            yield ' '
            yield escape(environment.finalize(l_1_outcome))
            yield escape(environment.finalize((', want attention' if l_1_wanting else cond_expr_undefined("the inline if-expression on line 108 in 'report.html.j2' evaluated to false and no else section was defined."))))
            yield '</title></rect></svg>\n'
            if (not environment.getattr(l_1_loop, 'first')):
                pass
                yield '<rect x="'
                yield escape(environment.finalize(t_12(l_1_x)))
                yield '" width="1.5" height="34" style="fill:var(--paper)"/>'
        l_1_loop = l_1_outcome = l_1_wanting = l_1_rows = l_1_x = l_1_width = missing
        yield '</svg>\n<ul class="legend"><li><svg class="swatch" aria-hidden="true"><rect width="100%" height="100%" class="f-assigned"/></svg>where they should be: '
        yield escape(environment.finalize(t_11((undefined(name='settled') if l_0_settled is missing else l_0_settled))))
        yield '</li><li><svg class="swatch" aria-hidden="true"><rect width="100%" height="100%" class="f-att"/></svg>want attention: '
        yield escape(environment.finalize(t_11(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'attention'))))
        yield '</li></ul>\n</figure>\n'
    yield '<div class="scroll" tabindex="0" role="region" aria-labelledby="h-counts">\n<table class="counts">\n<caption>What became of each row; every row has exactly one outcome</caption>\n<thead><tr><th scope="col">Outcome</th><th scope="col" class="num">Rows</th><th scope="col" class="num share">Share</th><th scope="col" class="num">Want attention</th></tr></thead>\n<tbody>\n'
    def t_34(fiter):
        for (l_1_outcome, l_1_rows) in fiter:
            if l_1_rows:
                yield (l_1_outcome, l_1_rows)
    for (l_1_outcome, l_1_rows) in t_34(context.call(environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'counts'), 'items'))):
        l_1_meaning = resolve('meaning')
        l_1_wanting = missing
        _loop_vars = {}
        pass
        l_1_wanting = context.call(environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'attentionByOutcome'), 'get'), l_1_outcome, 0, _loop_vars=_loop_vars)
        _loop_vars['wanting'] = l_1_wanting
        yield '<tr><th scope="row"><svg class="swatch" aria-hidden="true"><rect width="100%" height="100%" class="'
        yield escape(environment.finalize(('f-att' if ((undefined(name='wanting') if l_1_wanting is missing else l_1_wanting) == l_1_rows) else markup_join(('f-', l_1_outcome, )))))
        yield '"/></svg>'
        yield escape(environment.finalize(l_1_outcome))
        yield ' <span class="means">'
        yield escape(environment.finalize(environment.getitem((undefined(name='meaning') if l_1_meaning is missing else l_1_meaning), l_1_outcome)))
        yield '</span></th><td class="num">'
        yield escape(environment.finalize(t_11(l_1_rows)))
        yield '</td><td class="num share">'
        yield escape(environment.finalize(t_3('%.1f', ((100 * l_1_rows) / environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'rows')))))
        yield ' %</td><td class="num">'
        if (undefined(name='wanting') if l_1_wanting is missing else l_1_wanting):
            pass
            yield '<strong>'
            yield escape(environment.finalize(t_11((undefined(name='wanting') if l_1_wanting is missing else l_1_wanting))))
            yield '</strong>'
        else:
            pass
            yield '<span class="soft">none</span>'
        yield '</td></tr>\n'
    l_1_outcome = l_1_rows = l_1_wanting = l_1_meaning = missing
    yield '</tbody>\n<tfoot><tr><th scope="row">All rows</th><td class="num">'
    yield escape(environment.finalize(t_11(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'rows'))))
    yield '</td><td class="num share">100 %</td><td class="num">'
    yield escape(environment.finalize(t_11(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'attention'))))
    yield '</td></tr></tfoot>\n</table>\n</div>\n</section>\n\n'
    if t_21(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify')):
        pass
        l_0_found = environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify'), 'rows')
        context.vars['found'] = l_0_found
        context.exported_vars.add('found')
        yield '<section id="verify" aria-labelledby="h-verify">\n<h2 id="h-verify">Verification</h2>\n<p>'
        yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify'), 'customersAsked'), 'customer')))
        yield ' '
        yield escape(environment.finalize(('was' if (environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify'), 'customersAsked') == 1) else 'were')))
        yield ' queried, from '
        yield escape(environment.finalize(context.call((undefined(name='when') if l_0_when is missing else l_0_when), environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify'), 'startedAt'))))
        if environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify'), 'endedAt'):
            pass
            yield ' to '
            yield escape(environment.finalize(context.call((undefined(name='when') if l_0_when is missing else l_0_when), environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify'), 'endedAt'))))
        yield '. The API agrees with the outcome of '
        yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='found') if l_0_found is missing else l_0_found), 'yes'), 'row')))
        yield ' and contradicts '
        yield escape(environment.finalize(t_11(environment.getattr((undefined(name='found') if l_0_found is missing else l_0_found), 'no'))))
        yield '.'
        if environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify'), 'rowsSettled'):
            pass
            yield ' '
            yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify'), 'rowsSettled'), 'row')))
            yield ' without a usable answer '
            yield escape(environment.finalize(('was' if (environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify'), 'rowsSettled') == 1) else 'were')))
            yield ' settled by the verification.'
        yield '</p>\n'
        if (environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify'), 'customersMissed') or (not environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify'), 'endedAt'))):
            pass
            yield '<div class="callout warn" role="note"><p><strong>The verification is incomplete:</strong> '
            if environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify'), 'customersMissed'):
                pass
                yield 'the API did not answer for '
                yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify'), 'customersMissed'), 'customer')))
                yield '. '
            if (not environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'verify'), 'endedAt')):
                pass
                yield 'It ended early. '
            yield 'Verify the run again.</p></div>\n'
        if (undefined(name='differences') if l_0_differences is missing else l_0_differences):
            pass
            yield '<div class="scroll tall" tabindex="0" role="region" aria-labelledby="h-verify">\n<table class="sortable">\n<caption>Rows whose outcome the API contradicts'
            if (environment.getattr((undefined(name='found') if l_0_found is missing else l_0_found), 'no') > t_6((undefined(name='differences') if l_0_differences is missing else l_0_differences))):
                pass
                yield ': the first '
                yield escape(environment.finalize(t_6((undefined(name='differences') if l_0_differences is missing else l_0_differences))))
            yield '</caption>\n<thead><tr><th scope="col">Line</th><th scope="col">Customer</th><th scope="col">Device</th><th scope="col">Outcome</th><th scope="col">Now</th></tr></thead>\n<tbody>\n'
            for l_1_one in (undefined(name='differences') if l_0_differences is missing else l_0_differences):
                _loop_vars = {}
                pass
                yield '<tr><th scope="row"><bdi>'
                yield escape(environment.finalize(environment.getattr(l_1_one, 'line')))
                yield '</bdi></th><td>'
                yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(l_1_one, 'customer'), _loop_vars=_loop_vars)))
                yield '</td><td>'
                yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(l_1_one, 'device'), _loop_vars=_loop_vars)))
                yield '</td><td>'
                yield escape(environment.finalize(context.call((undefined(name='chip') if l_0_chip is missing else l_0_chip), environment.getattr(l_1_one, 'outcome'), True, _loop_vars=_loop_vars)))
                yield '</td><td>'
                yield escape(environment.finalize(('with the customer' if environment.getattr(l_1_one, 'is_with_customer') else 'not with the customer')))
                yield '</td></tr>\n'
            l_1_one = missing
            yield '</tbody>\n</table>\n</div>\n'
        yield '</section>\n'
    yield '\n<section id="attention" aria-labelledby="h-attention">\n<h2 id="h-attention">What wants attention</h2>\n'
    if (not (undefined(name='causes') if l_0_causes is missing else l_0_causes)):
        pass
        yield '<p>No row does.</p>\n'
    else:
        pass
        yield '<p>'
        yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'attention'), 'row')))
        yield ' for '
        yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), (undefined(name='causes_in_all') if l_0_causes_in_all is missing else l_0_causes_in_all), 'cause')))
        if ((undefined(name='causes_in_all') if l_0_causes_in_all is missing else l_0_causes_in_all) > t_6((undefined(name='causes') if l_0_causes is missing else l_0_causes))):
            pass
            yield '; these are the '
            yield escape(environment.finalize(t_6((undefined(name='causes') if l_0_causes is missing else l_0_causes))))
            yield ' with most rows'
        yield '. All of them are in <a href="'
        yield escape(environment.finalize(t_19((undefined(name='attention_file') if l_0_attention_file is missing else l_0_attention_file))))
        yield '">'
        yield escape(environment.finalize((undefined(name='attention_file') if l_0_attention_file is missing else l_0_attention_file)))
        yield "</a>, in the input's own columns: correct what can be corrected there, and run that file"
        if (undefined(name='feed_back') if l_0_feed_back is missing else l_0_feed_back):
            pass
            yield ': <code>'
            yield escape(environment.finalize(t_20((undefined(name='feed_back') if l_0_feed_back is missing else l_0_feed_back))))
            yield '</code>'
            yield escape(environment.finalize(context.call((undefined(name='copy') if l_0_copy is missing else l_0_copy), t_20((undefined(name='feed_back') if l_0_feed_back is missing else l_0_feed_back)), 'the command')))
        else:
            pass
            yield '.'
        if environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'stop'):
            pass
            yield ' But first continue this run, which has not ended; then see what is left.'
        yield '</p>\n<p class="search tool" hidden><label for="filter">Show causes that contain</label> <input type="search" id="filter" autocomplete="off" spellcheck="false"> <span id="filtered" role="status" class="soft"></span></p>\n<ol class="causes">\n'
        l_1_loop = missing
        for l_1_cause, l_1_loop in LoopContext((undefined(name='causes') if l_0_causes is missing else l_0_causes), undefined):
            l_1_meaning = resolve('meaning')
            l_1_advice = resolve('advice')
            l_1_known = missing
            _loop_vars = {}
            pass
            yield '<li class="cause">\n<div class="howmany">'
            yield escape(environment.finalize(t_11(environment.getattr(l_1_cause, 'rows'))))
            yield ' <span>'
            yield escape(environment.finalize(('row' if (environment.getattr(l_1_cause, 'rows') == 1) else 'rows')))
            yield '</span></div>\n<div>\n<h3>'
            yield escape(environment.finalize(context.call((undefined(name='chip') if l_0_chip is missing else l_0_chip), environment.getattr(l_1_cause, 'outcome'), True, _loop_vars=_loop_vars)))
            yield ' '
            yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), (environment.getattr(l_1_cause, 'text') or environment.getitem((undefined(name='meaning') if l_1_meaning is missing else l_1_meaning), environment.getattr(l_1_cause, 'outcome'))), _loop_vars=_loop_vars)))
            yield '</h3>\n<p>'
            yield escape(environment.finalize(('Line' if (environment.getattr(l_1_cause, 'rows') == 1) else 'Lines')))
            yield ' '
            l_2_loop = missing
            for l_2_line, l_2_loop in LoopContext(environment.getattr(l_1_cause, 'lines'), undefined):
                _loop_vars = {}
                pass
                yield '<bdi>'
                yield escape(environment.finalize(l_2_line))
                yield '</bdi>'
                yield escape(environment.finalize(('' if environment.getattr(l_2_loop, 'last') else ', ')))
            l_2_loop = l_2_line = missing
            if (environment.getattr(l_1_cause, 'rows') > t_6(environment.getattr(l_1_cause, 'lines'))):
                pass
                yield ' and '
                yield escape(environment.finalize(t_11((environment.getattr(l_1_cause, 'rows') - t_6(environment.getattr(l_1_cause, 'lines'))))))
                yield ' more'
            yield '</p>\n'
            l_1_known = (environment.getattr(l_1_cause, 'customer') or environment.getattr(l_1_cause, 'device'))
            _loop_vars['known'] = l_1_known
            yield '<p class="soft">For example '
            if (undefined(name='known') if l_1_known is missing else l_1_known):
                pass
                yield 'customer '
                yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), t_18(environment, environment.getattr(l_1_cause, 'customer'), 64, True, '…', 0), _loop_vars=_loop_vars)))
                yield ', device '
                yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), t_18(environment, environment.getattr(l_1_cause, 'device'), 64, True, '…', 0), _loop_vars=_loop_vars)))
            if ((not (undefined(name='known') if l_1_known is missing else l_1_known)) or (environment.getattr(l_1_cause, 'detail') != environment.getattr(l_1_cause, 'text'))):
                pass
                yield escape(environment.finalize(('. In full: ' if (undefined(name='known') if l_1_known is missing else l_1_known) else cond_expr_undefined("the inline if-expression on line 169 in 'report.html.j2' evaluated to false and no else section was defined."))))
                yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(l_1_cause, 'detail'), _loop_vars=_loop_vars)))
            yield '</p>\n<p><strong>What to do:</strong> '
            if (environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'stop') and environment.getattr(l_1_cause, 'is_stopped')):
                pass
                yield escape(environment.finalize(environment.getitem((undefined(name='advice') if l_1_advice is missing else l_1_advice), 'notSent')))
            elif environment.getattr(l_1_cause, 'contradicted'):
                pass
                yield escape(environment.finalize((undefined(name='contradicted') if l_0_contradicted is missing else l_0_contradicted)))
            elif environment.getattr(l_1_cause, 'is_spelled_differently'):
                pass
                yield escape(environment.finalize((undefined(name='spell_alike') if l_0_spell_alike is missing else l_0_spell_alike)))
            elif environment.getattr(l_1_cause, 'is_without_effect'):
                pass
                yield escape(environment.finalize((undefined(name='no_effect') if l_0_no_effect is missing else l_0_no_effect)))
            elif environment.getattr(l_1_cause, 'is_unknown_customer'):
                pass
                yield escape(environment.finalize((undefined(name='not_found') if l_0_not_found is missing else l_0_not_found)))
            elif environment.getattr(environment.getattr(l_1_cause, 'problem'), 'is_fixed_in_source'):
                pass
                yield escape(environment.finalize((undefined(name='in_the_source') if l_0_in_the_source is missing else l_0_in_the_source)))
            else:
                pass
                yield escape(environment.finalize(environment.getitem((undefined(name='advice') if l_1_advice is missing else l_1_advice), environment.getattr(l_1_cause, 'outcome'))))
            yield '</p>\n</div>\n</li>\n'
        l_1_loop = l_1_cause = l_1_meaning = l_1_known = l_1_advice = missing
        yield '</ol>\n'
    yield '</section>\n\n'
    if t_21(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'preview')):
        pass
        yield '<section id="preview" aria-labelledby="h-preview">\n<h2 id="h-preview">The look before sending</h2>\n<p>'
        yield escape(environment.finalize(context.call((undefined(name='when') if l_0_when is missing else l_0_when), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'previewedAt'))))
        yield ': '
        yield escape(environment.finalize(environment.getattr(environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'preview'), 'sentence')))
        yield '. <a href="preview.csv">preview.csv</a> says it of each row.</p>\n'
        if environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'rowsChangedByOthers'):
            pass
            yield '<p>'
            yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'rowsChangedByOthers'), 'row')))
            yield ' ended otherwise than the preview: another user or another run has changed these customers between the look and this run.</p>\n'
            yield escape(environment.finalize(context.call((undefined(name='rows_table') if l_0_rows_table is missing else l_0_rows_table), (undefined(name='changed_by_others') if l_0_changed_by_others is missing else l_0_changed_by_others), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'rowsChangedByOthers'), 'Rows whose outcome differs from the preview', 'h-preview')))
            yield '\n'
        yield '</section>\n'
    yield '\n'
    if ((environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'unassignsWithoutEffect') or environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersWithoutDevices')) or environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersStillHolding')):
        pass
        yield '<section id="unassigns" aria-labelledby="h-unassigns">\n<h2 id="h-unassigns">Unassigns</h2>\n'
        if (environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersWithoutDevices') or environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersStillHolding')):
            pass
            yield '<p>After their last unassign, '
            yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersWithoutDevices'), 'customer')))
            yield ' '
            yield escape(environment.finalize(('has' if (environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersWithoutDevices') == 1) else 'have')))
            yield ' no device left'
            if environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersStillHolding'):
                pass
                yield ', and '
                yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersStillHolding'), 'customer')))
                yield ' with only unassign rows still '
                yield escape(environment.finalize(('has' if (environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersStillHolding') == 1) else 'have')))
                yield ' some'
            yield '. The column <code>devicesRemaining</code> in <a href="reconciliation.csv">reconciliation.csv</a> gives the number.</p>\n'
        if (undefined(name='holders') if l_0_holders is missing else l_0_holders):
            pass
            yield '<div class="scroll tall" tabindex="0" role="region" aria-labelledby="h-unassigns">\n<table class="sortable">\n<caption>Customers with only unassign rows who still have devices'
            if (environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersStillHolding') > t_6((undefined(name='holders') if l_0_holders is missing else l_0_holders))):
                pass
                yield ': the '
                yield escape(environment.finalize(t_6((undefined(name='holders') if l_0_holders is missing else l_0_holders))))
                yield ' with most devices, and '
                yield escape(environment.finalize(t_11((environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersStillHolding') - t_6((undefined(name='holders') if l_0_holders is missing else l_0_holders))))))
                yield ' more'
            yield '</caption>\n<thead><tr><th scope="col">Customer</th><th scope="col" class="num">Devices left</th></tr></thead>\n<tbody>\n'
            for l_1_one in (undefined(name='holders') if l_0_holders is missing else l_0_holders):
                _loop_vars = {}
                pass
                yield '<tr><th scope="row">'
                yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(l_1_one, 'customer'), _loop_vars=_loop_vars)))
                yield '</th><td class="num">'
                yield escape(environment.finalize(t_11(environment.getattr(l_1_one, 'devices'))))
                yield '</td></tr>\n'
            l_1_one = missing
            yield '</tbody>\n</table>\n</div>\n'
        if environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'unassignsWithoutEffect'):
            pass
            yield '<p>'
            yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'unassignsWithoutEffect'), 'unassign')))
            yield ' had no effect: the customer did not have the device. Nothing was changed.</p>\n'
            yield escape(environment.finalize(context.call((undefined(name='rows_table') if l_0_rows_table is missing else l_0_rows_table), (undefined(name='without_effect') if l_0_without_effect is missing else l_0_without_effect), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'unassignsWithoutEffect'), 'Unassigns without effect', 'h-unassigns')))
            yield '\n'
        yield '</section>\n'
    yield '\n<section id="customers" aria-labelledby="h-customers">\n<h2 id="h-customers">Customers created by this run</h2>\n'
    if (not environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersCreated')):
        pass
        yield '<p>None: Telemetron knew every customer of this run.</p>\n'
    else:
        pass
        yield '<p>'
        yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersCreated'), 'customer')))
        yield ' that Telemetron did not know before'
        if (environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'customersCreated') > t_6((undefined(name='customers') if l_0_customers is missing else l_0_customers))):
            pass
            yield '; these are the first '
            yield escape(environment.finalize(t_6((undefined(name='customers') if l_0_customers is missing else l_0_customers))))
        yield '. A misspelt address appears here as a new customer. The API cannot remove customers, so undo.csv cannot take this back.</p>\n<ul class="list">'
        for l_1_customer in (undefined(name='customers') if l_0_customers is missing else l_0_customers):
            _loop_vars = {}
            pass
            yield '<li>'
            yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), l_1_customer, _loop_vars=_loop_vars)))
            yield '</li>'
        l_1_customer = missing
        yield '</ul>\n'
    yield '</section>\n\n<section id="transfers" aria-labelledby="h-transfers">\n<h2 id="h-transfers">Transfers</h2>\n'
    l_0_total = t_17(environment, context.call(environment.getattr((undefined(name='transfers_by_state') if l_0_transfers_by_state is missing else l_0_transfers_by_state), 'values')))
    context.vars['total'] = l_0_total
    context.exported_vars.add('total')
    if (not (undefined(name='total') if l_0_total is missing else l_0_total)):
        pass
        yield '<p>None: no device of this input moves from one customer to another.</p>\n'
    else:
        pass
        yield '<p>'
        yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), (undefined(name='total') if l_0_total is missing else l_0_total), 'device')))
        yield ' of this input '
        yield escape(environment.finalize(('moves' if ((undefined(name='total') if l_0_total is missing else l_0_total) == 1) else 'move')))
        yield ' from one customer to another'
        if ((undefined(name='total') if l_0_total is missing else l_0_total) > t_6((undefined(name='transfers') if l_0_transfers is missing else l_0_transfers))):
            pass
            yield '; these are '
            yield escape(environment.finalize(t_6((undefined(name='transfers') if l_0_transfers is missing else l_0_transfers))))
            yield ' of them, incomplete transfers first'
        yield '.</p>\n<ul class="legend">'
        def t_35(fiter):
            for (l_1_state, l_1_devices) in fiter:
                if l_1_devices:
                    yield (l_1_state, l_1_devices)
        for (l_1_state, l_1_devices) in t_35(context.call(environment.getattr((undefined(name='transfers_by_state') if l_0_transfers_by_state is missing else l_0_transfers_by_state), 'items'))):
            _loop_vars = {}
            pass
            yield '<li>'
            yield escape(environment.finalize(context.call((undefined(name='chip') if l_0_chip is missing else l_0_chip), l_1_state, (l_1_state != 'moved'), _loop_vars=_loop_vars)))
            yield ' '
            yield escape(environment.finalize(t_11(l_1_devices)))
            yield ': '
            yield escape(environment.finalize(environment.getitem((undefined(name='states') if l_0_states is missing else l_0_states), l_1_state)))
            yield '</li>'
        l_1_state = l_1_devices = missing
        yield '</ul>\n<div class="scroll tall" tabindex="0" role="region" aria-labelledby="h-transfers">\n<table class="sortable">\n<caption>Devices that one row unassigns from a customer and another row assigns to a second one</caption>\n<thead><tr><th scope="col">Device</th><th scope="col">From</th><th scope="col">To</th><th scope="col">State</th></tr></thead>\n<tbody>\n'
        for l_1_one in (undefined(name='transfers') if l_0_transfers is missing else l_0_transfers):
            _loop_vars = {}
            pass
            yield '<tr><th scope="row">'
            yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(l_1_one, 'device'), _loop_vars=_loop_vars)))
            yield '</th><td>'
            yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(l_1_one, 'taken_from'), _loop_vars=_loop_vars)))
            yield ' <span class="means">'
            yield escape(environment.finalize(environment.getattr(l_1_one, 'unassign_outcome')))
            yield '</span></td><td>'
            yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(l_1_one, 'given_to'), _loop_vars=_loop_vars)))
            yield ' <span class="means">'
            yield escape(environment.finalize(environment.getattr(l_1_one, 'assign_outcome')))
            yield '</span></td><td>'
            yield escape(environment.finalize(context.call((undefined(name='chip') if l_0_chip is missing else l_0_chip), environment.getattr(l_1_one, 'state'), (environment.getattr(l_1_one, 'state') != 'moved'), _loop_vars=_loop_vars)))
            yield '</td></tr>\n'
        l_1_one = missing
        yield '</tbody>\n</table>\n</div>\n'
    yield '</section>\n\n<section id="undo" aria-labelledby="h-undo">\n<h2 id="h-undo">What can be undone</h2>\n<p>'
    if environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'rows'):
        pass
        yield '<a href="undo.csv">undo.csv</a> takes back '
        yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'rows'), 'change')))
        yield ', all that this run surely made: '
        if (undefined(name='undo_command') if l_0_undo_command is missing else l_0_undo_command):
            pass
            yield '<code>'
            yield escape(environment.finalize(t_20((undefined(name='undo_command') if l_0_undo_command is missing else l_0_undo_command))))
            yield '</code>'
            yield escape(environment.finalize(context.call((undefined(name='copy') if l_0_copy is missing else l_0_copy), t_20((undefined(name='undo_command') if l_0_undo_command is missing else l_0_undo_command)), 'the command')))
        else:
            pass
            yield 'run it like any other file.'
    else:
        pass
        yield 'Nothing: this run surely changed nothing.'
    yield '</p>\n'
    if (environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'customers') or environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'devices')):
        pass
        yield '<p>The API cannot remove what this run created: '
        yield escape(environment.finalize((context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'customers'), 'customer') if environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'customers') else cond_expr_undefined("the inline if-expression on line 251 in 'report.html.j2' evaluated to false and no else section was defined."))))
        yield escape(environment.finalize((' and ' if (environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'customers') and environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'devices')) else cond_expr_undefined("the inline if-expression on line 251 in 'report.html.j2' evaluated to false and no else section was defined."))))
        yield escape(environment.finalize((context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'devices'), 'device') if environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'devices') else cond_expr_undefined("the inline if-expression on line 251 in 'report.html.j2' evaluated to false and no else section was defined."))))
        yield '.</p>\n'
    if environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'not_undone'):
        pass
        yield '<p>'
        yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'not_undone'), 'row')))
        yield ' '
        yield escape(environment.finalize(('is' if (environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'not_undone') == 1) else 'are')))
        yield ' left out: an answer was lost, so it is not known whether this run changed something there'
        if (environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'not_undone') > t_6(environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'first'))):
            pass
            yield '; these are the first '
            yield escape(environment.finalize(t_6(environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'first'))))
        yield '. Look up what the customer holds now, and decide.</p>\n<div class="scroll tall" tabindex="0" role="region" aria-labelledby="h-undo">\n<table class="sortable">\n<caption>Rows that undo.csv leaves as they are</caption>\n<thead><tr><th scope="col">Line</th><th scope="col">Customer</th><th scope="col">Device</th><th scope="col">Row</th></tr></thead>\n<tbody>\n'
        for l_1_one in environment.getattr((undefined(name='undo') if l_0_undo is missing else l_0_undo), 'first'):
            _loop_vars = {}
            pass
            yield '<tr><th scope="row"><bdi>'
            yield escape(environment.finalize(environment.getattr(l_1_one, 'line')))
            yield '</bdi></th><td>'
            yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(l_1_one, 'customer'), _loop_vars=_loop_vars)))
            yield '</td><td>'
            yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(l_1_one, 'device'), _loop_vars=_loop_vars)))
            yield '</td><td>'
            yield escape(environment.finalize(environment.getattr(l_1_one, 'action')))
            yield ' '
            yield escape(environment.finalize(context.call((undefined(name='chip') if l_0_chip is missing else l_0_chip), environment.getattr(l_1_one, 'outcome'), True, _loop_vars=_loop_vars)))
            yield '</td></tr>\n'
        l_1_one = missing
        yield '</tbody>\n</table>\n</div>\n'
    yield '</section>\n\n<section id="timeline" aria-labelledby="h-timeline">\n<h2 id="h-timeline">Timeline</h2>\n'
    if (not (undefined(name='timeline') if l_0_timeline is missing else l_0_timeline)):
        pass
        yield '<p>No attempt was made.</p>\n'
    else:
        pass
        l_0_lasted = (environment.getattr((undefined(name='timeline') if l_0_timeline is missing else l_0_timeline), 'end') - environment.getattr((undefined(name='timeline') if l_0_timeline is missing else l_0_timeline), 'start'))
        context.vars['lasted'] = l_0_lasted
        context.exported_vars.add('lasted')
        l_0_peak = t_9(environment, [1, t_9(environment, t_8(context, (undefined(name='slices') if l_0_slices is missing else l_0_slices), attribute='attempts'))])
        context.vars['peak'] = l_0_peak
        context.exported_vars.add('peak')
        l_0_limit = ((environment.getattr(environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'rate'), 'per_second') * environment.getattr((undefined(name='timeline') if l_0_timeline is missing else l_0_timeline), 'seconds')) if (environment.getattr(environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'rate'), 'per_second') < 1000000000.0) else 0)
        context.vars['limit'] = l_0_limit
        context.exported_vars.add('limit')
        l_0_shown_limit = ((undefined(name='limit') if l_0_limit is missing else l_0_limit) if (((undefined(name='limit') if l_0_limit is missing else l_0_limit) >= 3) and ((undefined(name='limit') if l_0_limit is missing else l_0_limit) <= (2.5 * (undefined(name='peak') if l_0_peak is missing else l_0_peak)))) else 0)
        context.vars['shown_limit'] = l_0_shown_limit
        context.exported_vars.add('shown_limit')
        l_0_top = (t_9(environment, [(undefined(name='peak') if l_0_peak is missing else l_0_peak), (undefined(name='shown_limit') if l_0_shown_limit is missing else l_0_shown_limit)]) * 1.15)
        context.vars['top'] = l_0_top
        context.exported_vars.add('top')
        l_0_step = (100 / t_6((undefined(name='slices') if l_0_slices is missing else l_0_slices)))
        context.vars['step'] = l_0_step
        context.exported_vars.add('step')
        l_0_H = 170
        context.vars['H'] = l_0_H
        context.exported_vars.add('H')
        yield '<p>'
        yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'attempts'), 'attempt')))
        yield ' for '
        yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'calls'), 'call')))
        yield ' in '
        yield escape(environment.finalize(t_2((undefined(name='lasted') if l_0_lasted is missing else l_0_lasted))))
        if environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'rateReached'):
            pass
            yield '; '
            yield escape(environment.finalize(t_3('%.3g', environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'rateReached'))))
            yield ' per second from the first attempt to the last'
        yield '. Ceiling (--rate): '
        yield escape(environment.finalize(environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'rate')))
        yield '.</p>\n<figure>\n<figcaption>Attempts per '
        yield escape(environment.finalize(t_2(environment.getattr((undefined(name='timeline') if l_0_timeline is missing else l_0_timeline), 'seconds'))))
        if ((undefined(name='limit') if l_0_limit is missing else l_0_limit) and (not (undefined(name='shown_limit') if l_0_shown_limit is missing else l_0_shown_limit))):
            pass
            yield ' (the ceiling, '
            yield escape(environment.finalize(t_3('%.3g', (undefined(name='limit') if l_0_limit is missing else l_0_limit))))
            yield ', is '
            yield escape(environment.finalize(('off this scale' if ((undefined(name='limit') if l_0_limit is missing else l_0_limit) > (undefined(name='top') if l_0_top is missing else l_0_top)) else 'not drawn')))
            yield ')'
        yield '</figcaption>\n<svg height="'
        yield escape(environment.finalize(((undefined(name='H') if l_0_H is missing else l_0_H) + 38)))
        yield '" role="img" aria-labelledby="tl-title tl-desc">\n<title id="tl-title">Attempts over time</title>\n<desc id="tl-desc">'
        yield escape(environment.finalize(t_6((undefined(name='slices') if l_0_slices is missing else l_0_slices))))
        yield ' slices of '
        yield escape(environment.finalize(t_2(environment.getattr((undefined(name='timeline') if l_0_timeline is missing else l_0_timeline), 'seconds'))))
        yield '; at most '
        yield escape(environment.finalize((undefined(name='peak') if l_0_peak is missing else l_0_peak)))
        yield ' attempts in one; '
        yield escape(environment.finalize(t_11(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'refusals'))))
        yield ' attempts were refused by the rate limit, '
        yield escape(environment.finalize(t_11(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'unclearAttempts'))))
        yield ' were unclear. The table below has the same numbers.</desc>\n'
        l_1_loop = missing
        for l_1_one, l_1_loop in LoopContext((undefined(name='slices') if l_0_slices is missing else l_0_slices), undefined):
            l_1_namespace = resolve('namespace')
            l_1_x = l_1_at = missing
            _loop_vars = {}
            pass
            l_1_x = t_12((environment.getattr(l_1_loop, 'index0') * (undefined(name='step') if l_0_step is missing else l_0_step)))
            _loop_vars['x'] = l_1_x
            if environment.getattr(l_1_one, 'down'):
                pass
                yield '<rect class="b-down" x="'
                yield escape(environment.finalize((undefined(name='x') if l_1_x is missing else l_1_x)))
                yield '" width="'
                yield escape(environment.finalize(t_12((undefined(name='step') if l_0_step is missing else l_0_step))))
                yield '" height="'
                yield escape(environment.finalize((undefined(name='H') if l_0_H is missing else l_0_H)))
                yield '"/>'
            if environment.getattr(l_1_one, 'waiting'):
                pass
                yield '<rect class="b-waiting" x="'
                yield escape(environment.finalize((undefined(name='x') if l_1_x is missing else l_1_x)))
                yield '" y="'
                yield escape(environment.finalize(((undefined(name='H') if l_0_H is missing else l_0_H) + 3)))
                yield '" width="'
                yield escape(environment.finalize(t_12((undefined(name='step') if l_0_step is missing else l_0_step))))
                yield '" height="5"/>'
            l_1_at = context.call((undefined(name='namespace') if l_1_namespace is missing else l_1_namespace), y=(undefined(name='H') if l_0_H is missing else l_0_H), _loop_vars=_loop_vars)
            _loop_vars['at'] = l_1_at
            def t_36(fiter):
                for l_2_what in fiter:
                    if environment.getitem(l_1_one, l_2_what):
                        yield l_2_what
            for l_2_what in t_36(('answered', 'throttled', 'unclear', 'unsent')):
                l_2_height = missing
                _loop_vars = {}
                pass
                l_2_height = (((undefined(name='H') if l_0_H is missing else l_0_H) * environment.getitem(l_1_one, l_2_what)) / (undefined(name='top') if l_0_top is missing else l_0_top))
                _loop_vars['height'] = l_2_height
                if not isinstance(l_1_at, Namespace):
                    raise TemplateRuntimeError("cannot assign attribute on non-namespace object")
                l_1_at['y'] = (environment.getattr((undefined(name='at') if l_1_at is missing else l_1_at), 'y') - (undefined(name='height') if l_2_height is missing else l_2_height))
                yield '<rect class="f-'
                yield escape(environment.finalize(l_2_what))
                yield '" x="'
                yield escape(environment.finalize((undefined(name='x') if l_1_x is missing else l_1_x)))
                yield '" y="'
                yield escape(environment.finalize(t_3('%.1f', environment.getattr((undefined(name='at') if l_1_at is missing else l_1_at), 'y'))))
                yield '" width="'
                yield escape(environment.finalize(t_12(((undefined(name='step') if l_0_step is missing else l_0_step) * 0.84))))
                yield '" height="'
                yield escape(environment.finalize(t_3('%.1f', (undefined(name='height') if l_2_height is missing else l_2_height))))
                yield '"/>\n'
            l_2_what = l_2_height = missing
        l_1_loop = l_1_one = l_1_x = l_1_namespace = l_1_at = missing
        yield '<line class="axis" x1="0" x2="100%" y1="'
        yield escape(environment.finalize(((undefined(name='H') if l_0_H is missing else l_0_H) + 0.5)))
        yield '" y2="'
        yield escape(environment.finalize(((undefined(name='H') if l_0_H is missing else l_0_H) + 0.5)))
        yield '"/>\n'
        l_0_high = ((undefined(name='H') if l_0_H is missing else l_0_H) - (((undefined(name='H') if l_0_H is missing else l_0_H) * (undefined(name='peak') if l_0_peak is missing else l_0_peak)) / (undefined(name='top') if l_0_top is missing else l_0_top)))
        context.vars['high'] = l_0_high
        context.exported_vars.add('high')
        yield '<line class="grid" x1="0" x2="100%" y1="'
        yield escape(environment.finalize(t_3('%.1f', (undefined(name='high') if l_0_high is missing else l_0_high))))
        yield '" y2="'
        yield escape(environment.finalize(t_3('%.1f', (undefined(name='high') if l_0_high is missing else l_0_high))))
        yield '"/>\n<text x="0" y="'
        yield escape(environment.finalize(t_3('%.1f', ((undefined(name='high') if l_0_high is missing else l_0_high) - 4))))
        yield '">'
        yield escape(environment.finalize(t_11((undefined(name='peak') if l_0_peak is missing else l_0_peak))))
        yield '</text>\n'
        if (undefined(name='shown_limit') if l_0_shown_limit is missing else l_0_shown_limit):
            pass
            l_0_high = ((undefined(name='H') if l_0_H is missing else l_0_H) - (((undefined(name='H') if l_0_H is missing else l_0_H) * (undefined(name='shown_limit') if l_0_shown_limit is missing else l_0_shown_limit)) / (undefined(name='top') if l_0_top is missing else l_0_top)))
            context.vars['high'] = l_0_high
            context.exported_vars.add('high')
            yield '<line class="ceiling" x1="0" x2="100%" y1="'
            yield escape(environment.finalize(t_3('%.1f', (undefined(name='high') if l_0_high is missing else l_0_high))))
            yield '" y2="'
            yield escape(environment.finalize(t_3('%.1f', (undefined(name='high') if l_0_high is missing else l_0_high))))
            yield '"/>\n<text x="100%" y="'
            yield escape(environment.finalize(t_3('%.1f', ((undefined(name='high') if l_0_high is missing else l_0_high) - 4))))
            yield '" text-anchor="end">ceiling '
            yield escape(environment.finalize(environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'rate')))
            yield '</text>\n'
        for l_1_quarter in context.call((undefined(name='range') if l_0_range is missing else l_0_range), 5):
            _loop_vars = {}
            pass
            yield '<text x="'
            yield escape(environment.finalize((l_1_quarter * 25)))
            yield '%" y="'
            yield escape(environment.finalize(((undefined(name='H') if l_0_H is missing else l_0_H) + 23)))
            yield '" text-anchor="'
            yield escape(environment.finalize(context.call(environment.getattr({0: 'start', 4: 'end'}, 'get'), l_1_quarter, 'middle', _loop_vars=_loop_vars)))
            yield '">'
            yield escape(environment.finalize(t_2((((t_6((undefined(name='slices') if l_0_slices is missing else l_0_slices)) * environment.getattr((undefined(name='timeline') if l_0_timeline is missing else l_0_timeline), 'seconds')) * l_1_quarter) / 4))))
            yield '</text>\n'
        l_1_quarter = missing
        yield '<text x="0" y="'
        yield escape(environment.finalize(((undefined(name='H') if l_0_H is missing else l_0_H) + 39)))
        yield '">'
        yield escape(environment.finalize(t_10(environment.getattr((undefined(name='timeline') if l_0_timeline is missing else l_0_timeline), 'start'))[11:19]))
        yield ' UTC</text>\n<text x="100%" y="'
        yield escape(environment.finalize(((undefined(name='H') if l_0_H is missing else l_0_H) + 39)))
        yield '" text-anchor="end">'
        yield escape(environment.finalize(t_10((environment.getattr((undefined(name='timeline') if l_0_timeline is missing else l_0_timeline), 'start') + (t_6((undefined(name='slices') if l_0_slices is missing else l_0_slices)) * environment.getattr((undefined(name='timeline') if l_0_timeline is missing else l_0_timeline), 'seconds'))))[11:19]))
        yield ' UTC</text>\n</svg>\n<ul class="legend" aria-hidden="true">\n'
        def t_37(fiter):
            for l_1_what in fiter:
                if t_17(environment, (undefined(name='slices') if l_0_slices is missing else l_0_slices), attribute=l_1_what):
                    yield l_1_what
        for l_1_what in t_37(('answered', 'throttled', 'unclear', 'unsent')):
            _loop_vars = {}
            pass
            yield '<li><svg class="swatch"><rect width="100%" height="100%" class="f-'
            yield escape(environment.finalize(l_1_what))
            yield '"/></svg>'
            yield escape(environment.finalize(environment.getitem((undefined(name='attempt_ends') if l_0_attempt_ends is missing else l_0_attempt_ends), l_1_what)))
            yield ': '
            yield escape(environment.finalize(t_11(t_17(environment, (undefined(name='slices') if l_0_slices is missing else l_0_slices), attribute=l_1_what))))
            yield '</li>\n'
        l_1_what = missing
        if t_7(context.eval_ctx, t_14(context, (undefined(name='slices') if l_0_slices is missing else l_0_slices), 'waiting')):
            pass
            yield '<li><svg class="swatch"><rect y="4" width="100%" height="5" class="b-waiting"/></svg>all calls wait: the API asked for it</li>'
        if t_7(context.eval_ctx, t_14(context, (undefined(name='slices') if l_0_slices is missing else l_0_slices), 'down')):
            pass
            yield '<li><svg class="swatch"><rect width="100%" height="100%" class="b-down"/></svg>the API seemed to be down</li>'
        yield '</ul>\n</figure>\n<details>\n<summary>The same as a table</summary>\n<div class="scroll" tabindex="0" role="region" aria-label="Timeline as a table">\n<table>\n<caption>Attempts in slices of '
        yield escape(environment.finalize(t_2(environment.getattr((undefined(name='timeline') if l_0_timeline is missing else l_0_timeline), 'seconds'))))
        yield ' from the first attempt; empty slices are shown only if something else happened</caption>\n<thead><tr><th scope="col">From</th><th scope="col" class="num">Attempts</th><th scope="col" class="num">Answered</th><th scope="col" class="num">Rate-limited</th><th scope="col" class="num">Unclear</th><th scope="col" class="num">Not sent</th><th scope="col">Meanwhile</th></tr></thead>\n<tbody>\n'
        l_1_loop = missing
        for l_1_one, l_1_loop in LoopContext((undefined(name='slices') if l_0_slices is missing else l_0_slices), undefined):
            _loop_vars = {}
            pass
            if ((environment.getattr(l_1_one, 'attempts') or environment.getattr(l_1_one, 'waiting')) or environment.getattr(l_1_one, 'down')):
                pass
                yield '<tr><th scope="row">'
                yield escape(environment.finalize(t_2((environment.getattr(l_1_loop, 'index0') * environment.getattr((undefined(name='timeline') if l_0_timeline is missing else l_0_timeline), 'seconds')))))
                yield '</th><td class="num">'
                yield escape(environment.finalize(t_11(environment.getattr(l_1_one, 'attempts'))))
                yield '</td><td class="num">'
                yield escape(environment.finalize(t_11(environment.getattr(l_1_one, 'answered'))))
                yield '</td><td class="num">'
                yield escape(environment.finalize(t_11(environment.getattr(l_1_one, 'throttled'))))
                yield '</td><td class="num">'
                yield escape(environment.finalize(t_11(environment.getattr(l_1_one, 'unclear'))))
                yield '</td><td class="num">'
                yield escape(environment.finalize(t_11(environment.getattr(l_1_one, 'unsent'))))
                yield '</td><td>'
                yield escape(environment.finalize(('waiting' if environment.getattr(l_1_one, 'waiting') else cond_expr_undefined("the inline if-expression on line 330 in 'report.html.j2' evaluated to false and no else section was defined."))))
                yield escape(environment.finalize((', ' if (environment.getattr(l_1_one, 'waiting') and environment.getattr(l_1_one, 'down')) else cond_expr_undefined("the inline if-expression on line 330 in 'report.html.j2' evaluated to false and no else section was defined."))))
                yield escape(environment.finalize(('down' if environment.getattr(l_1_one, 'down') else cond_expr_undefined("the inline if-expression on line 330 in 'report.html.j2' evaluated to false and no else section was defined."))))
                yield '</td></tr>\n'
        l_1_loop = l_1_one = missing
        yield '</tbody>\n</table>\n</div>\n</details>\n'
    if (undefined(name='events') if l_0_events is missing else l_0_events):
        pass
        yield '<details>\n<summary>Events: '
        yield escape(environment.finalize(('the first ' if (t_6((undefined(name='events') if l_0_events is missing else l_0_events)) < t_6(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'events'))) else cond_expr_undefined("the inline if-expression on line 340 in 'report.html.j2' evaluated to false and no else section was defined."))))
        yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), t_6((undefined(name='events') if l_0_events is missing else l_0_events)), 'event')))
        yield '</summary>\n<div class="scroll" tabindex="0" role="region" aria-label="Events">\n<table>\n<thead><tr><th scope="col">When</th><th scope="col">Kind</th><th scope="col">What</th></tr></thead>\n<tbody>\n'
        for l_1_event in (undefined(name='events') if l_0_events is missing else l_0_events):
            _loop_vars = {}
            pass
            yield '<tr><td class="num">'
            yield escape(environment.finalize(context.call((undefined(name='when') if l_0_when is missing else l_0_when), environment.getattr(l_1_event, 'at'), _loop_vars=_loop_vars)))
            yield '</td><td>'
            yield escape(environment.finalize(environment.getattr(l_1_event, 'kind')))
            yield '</td><td>'
            yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(l_1_event, 'text'), _loop_vars=_loop_vars)))
            yield '</td></tr>\n'
        l_1_event = missing
        yield '</tbody>\n</table>\n</div>\n</details>\n'
    yield '</section>\n\n<section id="plan" aria-labelledby="h-plan">\n<h2 id="h-plan">Plan and input</h2>\n<p>'
    yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'rows'), 'row')))
    yield ': '
    yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'devices'), 'device')))
    yield ' of '
    yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'customers'), 'customer')))
    yield ' in '
    yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'calls'), 'call')))
    yield '; '
    if (not t_24(environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'since_last'))):
        pass
        yield escape(environment.finalize(t_11(environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'unchanged'))))
        yield '&nbsp;unchanged ('
        yield escape(environment.finalize(environment.getattr(environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'since_last'), 'told')))
        yield '), '
    yield escape(environment.finalize(context.call((undefined(name='count') if l_0_count is missing else l_0_count), environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'duplicates'), 'duplicate')))
    yield ', '
    yield escape(environment.finalize(t_11(environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'invalid'))))
    yield ' invalid.'
    if (not t_24(environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'shortest_seconds'))):
        pass
        yield ' Shortest possible time at '
        yield escape(environment.finalize(environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'rate')))
        yield ': '
        yield escape(environment.finalize(t_2(environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'shortest_seconds'))))
        yield '.'
    yield '</p>\n'
    if (t_21(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'approval')) and environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'approval')):
        pass
        yield '<dl class="pairs">\n<dt>Plan</dt><dd><code>'
        yield escape(environment.finalize(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'fingerprint')))
        yield '</code></dd>\n<dt>Planned by</dt><dd>'
        yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'approval'), 'plannedBy'))))
        yield '</dd>\n'
        if environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'approval'), 'approvedBy'):
            pass
            yield '<dt>Approved by</dt><dd>'
            yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'approval'), 'approvedBy'))))
            yield ', '
            yield escape(environment.finalize(context.call((undefined(name='when') if l_0_when is missing else l_0_when), environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'approval'), 'approvedAt'))))
            yield '</dd>\n'
        yield '</dl>\n'
    for l_1_words in environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'held_sentences'):
        _loop_vars = {}
        pass
        yield '<p>'
        yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), l_1_words, _loop_vars=_loop_vars)))
        yield '.</p>\n'
    l_1_words = missing
    for l_1_warning in environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'warnings'):
        _loop_vars = {}
        pass
        yield '<div class="callout warn" role="note"><p><strong>Warning:</strong> '
        yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), l_1_warning, _loop_vars=_loop_vars)))
        yield '</p></div>\n'
    l_1_warning = missing
    if environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'stages'):
        pass
        yield '<div class="scroll" tabindex="0" role="region" aria-label="Stages">\n<table class="narrow">\n<caption>Stages: each starts when all calls of the previous one are settled</caption>\n<thead><tr><th scope="col">Stage</th><th scope="col">Action</th><th scope="col" class="num">Calls</th><th scope="col" class="num">Devices</th></tr></thead>\n<tbody>\n'
        for l_1_stage in environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'stages'):
            _loop_vars = {}
            pass
            yield '<tr><th scope="row">'
            yield escape(environment.finalize(environment.getattr(l_1_stage, 'number')))
            yield '</th><td>'
            yield escape(environment.finalize(environment.getattr(l_1_stage, 'action')))
            yield '</td><td class="num">'
            yield escape(environment.finalize(t_11(environment.getattr(l_1_stage, 'calls'))))
            yield '</td><td class="num">'
            yield escape(environment.finalize(t_11(environment.getattr(l_1_stage, 'devices'))))
            yield '</td></tr>\n'
        l_1_stage = missing
        yield '</tbody>\n</table>\n</div>\n'
    if environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'problems'):
        pass
        yield '<h3>Problems found in the input</h3>\n<div class="scroll" tabindex="0" role="region" aria-label="Problems by kind">\n<table class="narrow">\n<caption>Rows that were not sent because they are invalid</caption>\n<thead><tr><th scope="col">Problem</th><th scope="col" class="num">Rows</th><th scope="col">First lines</th></tr></thead>\n<tbody>\n'
        for l_1_kind in environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'problems'):
            _loop_vars = {}
            pass
            yield '<tr><th scope="row">'
            yield escape(environment.finalize(environment.getattr(l_1_kind, 'title')))
            yield '</th><td class="num">'
            yield escape(environment.finalize(t_11(environment.getattr(l_1_kind, 'rows'))))
            yield '</td><td>'
            yield escape(environment.finalize(t_5(context.eval_ctx, environment.getattr(l_1_kind, 'lines'), ', ')))
            yield escape(environment.finalize((', …' if (environment.getattr(l_1_kind, 'rows') > t_6(environment.getattr(l_1_kind, 'lines'))) else cond_expr_undefined("the inline if-expression on line 392 in 'report.html.j2' evaluated to false and no else section was defined."))))
            yield '</td></tr>\n'
        l_1_kind = missing
        yield '</tbody>\n</table>\n</div>\n'
    for l_1_file in environment.getattr((undefined(name='plan') if l_0_plan is missing else l_0_plan), 'files'):
        l_1_delimiter_names = resolve('delimiter_names')
        _loop_vars = {}
        pass
        yield '<h3>How '
        yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(l_1_file, 'name'), _loop_vars=_loop_vars)))
        yield ' was read</h3>\n'
        for l_2_warning in environment.getattr(l_1_file, 'warnings'):
            _loop_vars = {}
            pass
            yield '<div class="callout warn" role="note"><p><strong>Warning:</strong> '
            yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), l_2_warning, _loop_vars=_loop_vars)))
            yield '</p></div>'
        l_2_warning = missing
        yield '<dl class="pairs">\n<dt>Path</dt><dd>'
        yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), environment.getattr(l_1_file, 'path'), _loop_vars=_loop_vars)))
        yield '</dd>\n<dt>SHA-256</dt><dd><code>'
        yield escape(environment.finalize(environment.getattr(l_1_file, 'sha256')))
        yield '</code></dd>\n<dt>Encoding</dt><dd>'
        yield escape(environment.finalize((environment.getattr(l_1_file, 'encoding') or 'none (workbook)')))
        yield '</dd>\n<dt>Delimiter</dt><dd>'
        yield escape(environment.finalize((context.call(environment.getattr((undefined(name='delimiter_names') if l_1_delimiter_names is missing else l_1_delimiter_names), 'get'), environment.getattr(l_1_file, 'delimiter'), environment.getattr(l_1_file, 'delimiter'), _loop_vars=_loop_vars) or 'none')))
        yield '</dd>\n<dt>Header</dt><dd>on line '
        yield escape(environment.finalize(environment.getattr(l_1_file, 'header_line')))
        yield '</dd>\n'
        for (l_2_field, l_2_header) in context.call(environment.getattr(environment.getattr(l_1_file, 'columns'), 'items'), _loop_vars=_loop_vars):
            _loop_vars = {}
            pass
            yield '<dt>'
            yield escape(environment.finalize(l_2_field))
            yield '</dt><dd>from column “'
            yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), l_2_header, _loop_vars=_loop_vars)))
            yield '”</dd>\n'
        l_2_field = l_2_header = missing
        yield '</dl>\n'
    l_1_file = l_1_delimiter_names = missing
    yield '<h3>Options</h3>\n'
    if environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'options'):
        pass
        yield '<dl class="pairs">\n'
        l_1_loop = missing
        for (l_1_name, l_1_value), l_1_loop in LoopContext(context.call(environment.getattr(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'options'), 'items')), undefined):
            _loop_vars = {}
            pass
            yield '<dt><code>--'
            yield escape(environment.finalize(t_13(context.eval_ctx, l_1_name, '_', '-')))
            yield '</code></dt><dd>'
            if t_25(l_1_value, True):
                pass
                yield 'on'
            elif t_25(l_1_value, False):
                pass
                yield 'off'
            elif t_23(l_1_value):
                pass
                l_2_loop = missing
                for (l_2_key, l_2_one), l_2_loop in LoopContext(context.call(environment.getattr(l_1_value, 'items'), _loop_vars=_loop_vars), undefined):
                    _loop_vars = {}
                    pass
                    yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), markup_join((l_2_key, '=', l_2_one, )), _loop_vars=_loop_vars)))
                    yield escape(environment.finalize(('' if environment.getattr(l_2_loop, 'last') else ', ')))
                l_2_loop = l_2_key = l_2_one = missing
            elif (t_22(l_1_value) and (not t_26(l_1_value))):
                pass
                l_2_loop = missing
                for l_2_one, l_2_loop in LoopContext(l_1_value, undefined):
                    _loop_vars = {}
                    pass
                    yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), t_15(l_2_one), _loop_vars=_loop_vars)))
                    yield escape(environment.finalize(('' if environment.getattr(l_2_loop, 'last') else ', ')))
                l_2_loop = l_2_one = missing
            else:
                pass
                yield escape(environment.finalize(context.call((undefined(name='cell') if l_0_cell is missing else l_0_cell), t_15(l_1_value), _loop_vars=_loop_vars)))
            yield '</dd>\n'
        l_1_loop = l_1_name = l_1_value = missing
        yield '</dl>\n<p class="soft">All other options had their defaults.</p>\n'
    else:
        pass
        yield '<p>All options had their defaults.</p>\n'
    yield '</section>\n\n<section id="files" aria-labelledby="h-files">\n<h2 id="h-files">Files of this run</h2>\n<dl class="pairs">\n'
    for l_1_name in (undefined(name='links') if l_0_links is missing else l_0_links):
        _loop_vars = {}
        pass
        yield '<dt><a href="'
        yield escape(environment.finalize(t_19(l_1_name)))
        yield '">'
        yield escape(environment.finalize(l_1_name))
        yield '</a></dt><dd>'
        yield escape(environment.finalize(context.call(environment.getattr((undefined(name='files') if l_0_files is missing else l_0_files), 'get'), l_1_name, 'the current attention rows; an edited earlier version is kept beside it', _loop_vars=_loop_vars)))
        yield '</dd>\n'
    l_1_name = missing
    yield '</dl>\n</section>\n</main>\n<footer>Written by telemetron-batch '
    yield escape(environment.finalize(environment.getattr((undefined(name='run') if l_0_run is missing else l_0_run), 'version')))
    yield '. This page is self-contained and loads nothing from the network.</footer>\n<script>'
    yield escape(environment.finalize((undefined(name='script') if l_0_script is missing else l_0_script)))
    yield '</script>\n</body>\n</html>'

blocks = {}
debug_info = '2=202&3=205&4=208&5=211&6=214&7=217&8=220&18=223&29=226&35=229&41=232&42=248&43=268&44=281&46=283&49=294&50=299&56=313&57=329&58=346&59=363&60=380&61=383&66=387&70=389&72=393&78=395&79=407&80=409&81=412&83=421&85=430&86=432&87=439&88=441&89=444&90=448&91=454&96=460&97=467&103=471&106=475&107=486&108=490&109=501&112=508&120=513&121=522&122=525&125=546&130=550&131=552&134=556&135=578&136=581&138=590&141=593&144=598&145=602&156=616&159=622&162=649&164=656&166=660&167=664&168=681&169=684&170=695&178=720&181=723&182=727&183=730&184=732&189=736&192=739&193=742&195=754&198=757&201=765&202=769&208=775&209=778&210=780&217=784&220=790&221=797&227=806&228=809&231=815&232=825&238=841&239=845&249=860&250=878&251=881&253=885&254=888&260=897&261=901&271=914&274=919&275=922&276=925&277=928&278=931&279=934&280=937&281=941&283=954&284=963&286=965&287=976&288=981&289=983&290=992&291=1001&292=1003&293=1011&294=1015&295=1017&298=1030&299=1034&300=1038&301=1042&302=1046&303=1048&304=1052&305=1056&307=1060&308=1064&310=1074&311=1078&314=1082&315=1090&317=1097&318=1100&325=1104&328=1107&329=1110&330=1113&338=1131&340=1134&345=1137&346=1141&357=1150&358=1176&360=1179&361=1181&362=1183&363=1186&367=1191&369=1198&371=1205&377=1208&378=1212&384=1222&391=1225&392=1229&398=1238&399=1243&400=1245&402=1253&403=1255&404=1257&405=1259&406=1261&407=1263&408=1267&413=1275&415=1279&416=1283&428=1319&429=1323&434=1331&435=1333'
