"""What a compiled program's text says of its bytes and its messages."""

import re

import pytest

from jaxnn.planning.hlo import Program, sizes

TEXT = """\
HloModule jit_step, is_scheduled=true

%fused_slice (param_0: f32[8,100], param_1: s32[]) -> f32[1,100] {
  %param_0 = f32[8,100]{1,0} parameter(0)
  %param_1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %slice = f32[1,100]{1,0} dynamic-slice(%param_0, %param_1, %zero)
}

%fused_update (param_0: f32[8,100], param_1: f32[1,100], param_2: s32[]) -> f32[8,100] {
  %param_0 = f32[8,100]{1,0} parameter(0)
  %param_1 = f32[1,100]{1,0} parameter(1)
  %param_2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %update = f32[8,100]{1,0} dynamic-update-slice(%param_0, %param_1, %param_2, %zero)
}

%layers (carry: (s32[], f32[8,100])) -> (s32[], f32[8,100]) {
  %carry = (s32[], f32[8,100]{1,0}) parameter(0)
  %number = s32[] get-tuple-element(%carry), index=0
  %stack = f32[8,100]{1,0} get-tuple-element(%carry), index=1
  %row = f32[1,100]{1,0} fusion(%stack, %number), kind=kLoop, calls=%fused_slice, \
metadata={op_name="jit(looped)/while/body/jvp(body)/norm/slice"}
  %after = f32[8,100]{1,0} fusion(%stack, %row, %number), kind=kLoop, calls=%fused_update
  %sum = f32[100]{0} all-reduce(%row), replica_groups=REPLICAS, to_apply=%add
  ROOT %next = (s32[], f32[8,100]{1,0}) tuple(%number, %after)
}

%step (carry: (s32[], f32[8,100])) -> (s32[], f32[8,100]) {
  %carry = (s32[], f32[8,100]{1,0}) parameter(0)
  %started = ((f32[8,25]{1,0}), (f32[8,100]{1,0})) all-gather-start(%carry), replica_groups=REPLICAS
  ROOT %loop = (s32[], f32[8,100]{1,0}) while(%carry), condition=%less, body=%layers, \
backend_config={"known_trip_count":{"n":"8"}}
}

ENTRY %main (state: (s32[], f32[8,100])) -> (s32[], f32[8,100]) {
  %state = (s32[], f32[8,100]{1,0}) parameter(0)
  ROOT %steps = (s32[], f32[8,100]{1,0}) while(%state), condition=%more, body=%step
}
"""


@pytest.mark.parametrize(
    "groups", ["{{0,1,2,3}}", "[2,4]<=[8]", "mesh['a'=2,'b'=4] {'b'}"], ids=["list", "iota", "mesh"]
)
def test_a_loop_counts_each_turn_and_a_slice_no_more_than_itself(groups):
    program = Program(TEXT.replace("REPLICAS", groups))
    assert program.step == "step"
    slice_, update, reduced = 400 + 400 + 4, 400 + 400 + 4, 2 * 400
    collected = 800 + 3200
    assert program.moved() == 8 * (slice_ + update + reduced) + collected
    gather, reduce = program.messages()
    assert (gather.kind, gather.count, gather.bytes, gather.devices) == ("all-gather", 1, 3200, 4)
    assert (reduce.kind, reduce.count, reduce.bytes, reduce.devices) == ("all-reduce", 8, 3200, 4)
    assert (gather.sent, reduce.sent) == (3200 * 3 / 4, 2 * 3200 * 3 / 4)


def test_arrays_have_the_name_of_what_makes_them():
    arrays = Program(re.sub("REPLICAS", "{{0,1}}", TEXT)).arrays()
    assert ("jit(looped)/while/body/jvp(body)/norm/slice", "f32[1,100]", 400) in arrays


def test_arrays_in_fast_memory_take_none():
    assert sizes("(f32[2,3]{1,0}, bf16[4]{0:T(256)S(1)}, pred[], s4[3])") == [24, 0, 1, 2]
